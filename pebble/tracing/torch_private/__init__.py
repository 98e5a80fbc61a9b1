"""What torch keeps private: named here and nowhere else, one reason beside each.

Written for torch 2.11 and newer.
"""
