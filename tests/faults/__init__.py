"""Every system call of what the product writes made to fail once, in turn."""
