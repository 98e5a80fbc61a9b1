"""What torch keeps private: named here and nowhere else, one reason beside each.

Written for torch 2.10 and newer.
"""
