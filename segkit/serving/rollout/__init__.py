"""Bringing a version into service and taking it back, on a server that runs.

control.py    what can be asked of a model server and told to it, over gRPC alone
place.py      one model there, what is served of it, and the file that says so to a restart
history.py    what was rolled out when, beside that file; one roll-out at a time
waiting.py    for versions to come and go
checks.py     whether a version may serve: manifest, engines, contract, answers on real images
engines.py    whether TensorRT engines were built for the server's machine
work.py       the single steps, and what is said where one fails
steps.py      rollout() and rollback(): their order
"""
