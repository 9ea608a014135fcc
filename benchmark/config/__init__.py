"""Settings: their schema, their files, and how layers of them become one configuration."""
