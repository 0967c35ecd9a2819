"""What all routes share: authentication, routing, errors, server-sent events, OpenAPI."""
