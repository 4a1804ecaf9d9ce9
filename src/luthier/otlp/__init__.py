"""Traces for an OpenTelemetry collector; imported only where they are switched on."""
