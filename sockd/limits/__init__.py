"""Who may, and how much; pure but for the clock."""
