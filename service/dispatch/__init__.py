"""The dispatcher: brings the observed state of every experiment to the desired one."""
