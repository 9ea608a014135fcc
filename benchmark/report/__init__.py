"""From records to tables and figures. Nothing here trains, and nothing here imports torch."""
