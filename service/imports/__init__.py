"""Imports: runs made without the service, brought into it afterwards."""
