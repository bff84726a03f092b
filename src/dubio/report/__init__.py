"""What people look at: the terminal table, the self-contained HTML report and its figures, the model card."""
