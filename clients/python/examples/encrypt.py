"""Encrypts and decrypts one value. usage: encrypt.py KEY TEXT"""

import sys

import mortise

key, text = sys.argv[1:]

# Without a token the agent goes by the uid of this process; in Kubernetes name the projected token file:
# mortise.Client(token=mortise.TokenFile("/var/run/secrets/mortise/token"))
with mortise.Client() as client:
    encrypted = client.encrypt(key, text.encode(), associated_data=b"order 17")
    print(encrypted.envelope.algorithm_used, encrypted.envelope.key_used)
    try:
        client.decrypt(encrypted.jwe, associated_data=b"order 18")
    except mortise.MortiseError as error:
        print(error.code, "retryable" if error.retryable else "final")
    print(client.decrypt(encrypted.jwe, associated_data=b"order 17").plaintext.decode())
