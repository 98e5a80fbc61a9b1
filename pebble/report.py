"""Front door: `pebble.plan.report` under the path that people import it from."""

from pebble.plan.report import gigabytes, plan_html, plan_text, table

__all__ = ["gigabytes", "plan_html", "plan_text", "table"]
