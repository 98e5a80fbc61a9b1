"""Front door: what is printed, under the path that people import it from."""

from pebble.formatting import gigabytes, table
from pebble.plan.report import plan_html, plan_text

__all__ = ["gigabytes", "plan_html", "plan_text", "table"]
