"""The embedded server: tensorflow/serving's gRPC services over engines, in this process.

wire.py      tensors <-> bytes              servable.py  one loaded version
predict.py   one request on one version     warmup.py    records replayed before a version serves
folder.py    the numbered folders           versions.py  which versions are loaded, and their states
service.py   the methods on raw bytes       grpc_server.py, server.py  ports, start and stop
"""
