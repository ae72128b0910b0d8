"""The REST API: HTTP and JSON before the same models, in tensorflow/serving's words.

server.py, connection.py, message.py   the HTTP server: one thread for all connections
api.py                                 routes, methods, errors
json_*.py                              bodies: JSON to arrays, arrays and messages to JSON
"""
