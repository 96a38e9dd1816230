"""Who may do what: tokens, their owners and scopes."""
