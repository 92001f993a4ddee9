"""How each module's test classes are turned to fastloop: one function per module."""
