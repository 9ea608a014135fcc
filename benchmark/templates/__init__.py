"""What `new` writes: working sources in which two names are replaced. They are linted and tested as they stand here."""
