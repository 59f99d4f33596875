"""What programs that use the service import; the service itself imports none of it but the CLI."""
