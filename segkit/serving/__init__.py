"""The embedded server: tensorflow/serving's API over engines, in this process.

settings.py, server.py     how to serve; ports, start and stop
models.py, versions.py     what is served: configurations, labels; versions and their states
folder.py                  the numbered folders, and which of them a policy takes
servable.py, warmup.py     one loaded version; the records replayed before it serves
batching.py                requests that are run as one
predict.py, inference.py   one request on one version; those that are refused
service.py, grpc_server.py the methods on raw bytes; the gRPC port
rest/                      the REST port
wire.py                    tensors <-> bytes
metrics.py, memory.py      what is counted; memory given back
configs.py, config_poll.py tensorflow/serving's configuration files
containers/                what its containers read, checked; certificates
rollout/                   versions into service, and back
"""
