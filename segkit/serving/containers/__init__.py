"""What docker-compose.yml and serving/ read: written from what was published, and checked.

published.py      models and versions on disk, and what they were built and warmed up for
settings.py       which versions, under which labels, in which batches
memory.py         what all of it takes on a GPU, estimated
config.py         the server's configuration as its own messages, checked against what is published
compose.py        what docker compose must be told where it is not the usual model
certificates.py   a private authority, and what it signs
tls.py            the folder of keys and certificates, ssl.config
generated.py      writing files without losing what somebody edited
"""
