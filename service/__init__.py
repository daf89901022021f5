"""The AdaDim service: REST API, database, dispatcher, metrics, dashboard, command line."""
