"""What differs between tasks, one module per task; what they share is in `projects.session`."""
