"""The layers that the families share. None knows a family."""
