"""The API below /actiontrack/api/: endpoints, answers, routes and the OpenAPI document."""
