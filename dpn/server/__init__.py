"""All HTTP: what every service shares. Each folder in here is a service; what they share knows of none."""
