"""OpenID Connect: bearer tokens of an issuer are checked, and people sign in at it."""
