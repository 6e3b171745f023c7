"""Compare masks with labels: scores, statistics, claims, breakdowns, and the checks before them."""
