"""Commands on a running service: one module per noun of the API. Only `models pull` and `models import` need none."""
