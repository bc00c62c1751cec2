"""What only the paper needs: entry points, models, datasets and one experiment per section."""
