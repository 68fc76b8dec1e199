"""The cryptographic operations. Callers name a key, never an algorithm. All are safe to repeat.

Every method takes `deadline`, seconds that the call may take with its repeats (default: the client's), and
`correlation_id`, which finds the call in the agent's log and audit trail (default: a random UUID).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import _convert as convert
from .. import types as t
from .._messages import RPCS
from .transport import Transport


def _signed_input(message: bytes | None, digest: bytes | None) -> dict[str, bytes]:
    if message is not None and digest is not None:
        raise ValueError("either message or digest, not both")
    if digest is not None:
        return {"digest": digest}
    return {} if message is None else {"message": message}


def _signature(jws: str | None, raw: bytes | None) -> dict[str, Any]:
    if (jws is None) == (raw is None):
        raise ValueError("either jws or raw")
    return {"jws": jws} if raw is None else {"raw": raw}


class CryptoOperations:
    """Encryption, signatures, MACs and random bytes."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _call(self, rpc: str, fields: Mapping[str, Any], deadline: float | None, correlation_id: str | None) -> Any:
        request = RPCS[rpc].request(**fields)
        return self._transport.call(rpc, request, deadline=deadline, correlation_id=correlation_id)

    def encrypt(
        self,
        key: str,
        plaintext: bytes,
        *,
        associated_data: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.Encrypted:
        """Encrypts up to 2 MiB to a Compact JWE (RFC 7516).

        :param key: key id or `<tenant>/<key id>`, purpose encrypt
        :param associated_data: bound in but not carried; `decrypt` needs the same bytes; at most 16 KiB
        :raises MortiseError: KEY_UNKNOWN, KEY_STATE, KEY_LIMIT, POLICY_DENIED, TOO_LARGE, HSM_BUSY, …
        """
        fields = {"key": key, "plaintext": plaintext, "associated_data": associated_data}
        answer = self._call("Encrypt", fields, deadline, correlation_id)
        return t.Encrypted(answer.jwe, convert.envelope(answer.envelope))

    def decrypt(
        self,
        jwe: str,
        *,
        key: str = "",
        associated_data: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.Decrypted:
        """Decrypts a JWE, Compact or JSON, of at most 3 MiB.

        :param key: that it must be under; without it the `kid` of the header names the key
        :raises MortiseError: INVALID_CIPHERTEXT for every failure of the cryptography, wrong associated data included
        """
        fields = {"jwe": jwe, "key": key, "associated_data": associated_data}
        answer = self._call("Decrypt", fields, deadline, correlation_id)
        return t.Decrypted(answer.plaintext, convert.envelope(answer.envelope))

    def sign(
        self,
        key: str,
        message: bytes | None = None,
        *,
        digest: bytes | None = None,
        form: t.SignatureForm = "jws",
        type: str = "",
        context: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.Signed:
        """Signs a message of at most 2 MiB, or its digest (form `raw`, not Ed25519).

        :param type: protected header `typ`; not with `raw`
        :param context: context string, at most 255 bytes; only with `raw` and ML-DSA, SLH-DSA and composites
        """
        fields = {
            "key": key,
            "form": convert.form_number(form),
            "type": type,
            "context": context,
            **_signed_input(message, digest),
        }
        answer = self._call("Sign", fields, deadline, correlation_id)
        return t.Signed(answer.jws, answer.signature, convert.envelope(answer.envelope))

    def verify(
        self,
        jws: str | None = None,
        *,
        raw: bytes | None = None,
        message: bytes | None = None,
        digest: bytes | None = None,
        key: str = "",
        version: int = 0,
        context: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.Verification:
        """Verifies a JWS or a raw signature by a key of the agent.

        :param key: without it the `kid` of the JWS names it; required for a raw signature
        :param version: key version of a raw signature; 0 is the primary version
        """
        fields = {
            "key": key,
            "version": version,
            "context": context,
            **_signature(jws, raw),
            **_signed_input(message, digest),
        }
        answer = self._call("Verify", fields, deadline, correlation_id)
        return t.Verification(answer.valid, answer.payload, convert.envelope(answer.envelope))

    def mac(
        self, key: str, message: bytes, *, deadline: float | None = None, correlation_id: str | None = None
    ) -> t.Mac:
        """Computes an HMAC over at most 1 MiB: 32, 48 or 64 bytes."""
        answer = self._call("Mac", {"key": key, "message": message}, deadline, correlation_id)
        return t.Mac(answer.mac, convert.envelope(answer.envelope))

    def verify_mac(
        self,
        key: str,
        message: bytes,
        mac: bytes,
        *,
        version: int = 0,
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.MacVerification:
        """Verifies a full HMAC in constant time. A wrong one is an answer, not an error."""
        fields = {"key": key, "message": message, "mac": mac, "version": version}
        answer = self._call("VerifyMac", fields, deadline, correlation_id)
        return t.MacVerification(answer.valid, convert.envelope(answer.envelope))

    def generate_random(
        self, length: int, *, deadline: float | None = None, correlation_id: str | None = None
    ) -> bytes:
        """1 to 65536 random bytes, from the token mixed with the operating system's."""
        answer = self._call("GenerateRandom", {"length": length}, deadline, correlation_id)
        found: bytes = answer.random
        return found

    def encrypt_to(
        self,
        public_key: str | Mapping[str, object],
        plaintext: bytes,
        *,
        associated_data: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.Encrypted:
        """Encrypts to a public key (JWK without private members, or PEM text) that is never stored."""
        fields = {
            "public_jwk": convert.jwk_text(public_key),
            "plaintext": plaintext,
            "associated_data": associated_data,
        }
        answer = self._call("EncryptTo", fields, deadline, correlation_id)
        return t.Encrypted(answer.jwe, convert.envelope(answer.envelope))

    def verify_with(
        self,
        public_key: str | Mapping[str, object],
        jws: str | None = None,
        *,
        raw: bytes | None = None,
        message: bytes | None = None,
        digest: bytes | None = None,
        context: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.Verification:
        """Verifies against a public key that is never stored; for a raw signature its JWK must have `alg`."""
        fields = {
            "public_jwk": convert.jwk_text(public_key),
            "context": context,
            **_signature(jws, raw),
            **_signed_input(message, digest),
        }
        answer = self._call("VerifyWith", fields, deadline, correlation_id)
        return t.Verification(answer.valid, answer.payload, convert.envelope(answer.envelope))

    def encrypt_general(
        self,
        recipients: Sequence[t.Recipient],
        plaintext: bytes,
        *,
        associated_data: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.EncryptedGeneral:
        """Encrypts to 1 to 32 recipients: a General JSON JWE (RFC 7516 section 7.2.1), which `rewrap` can change."""
        fields = {
            "recipients": convert.recipients(recipients),
            "plaintext": plaintext,
            "associated_data": associated_data,
        }
        answer = self._call("EncryptGeneral", fields, deadline, correlation_id)
        used = convert.keys_used(answer.keys_used)
        return t.EncryptedGeneral(answer.jwe, used, convert.envelope(answer.envelope))

    def re_encrypt(
        self,
        jwe: str,
        *,
        source_key: str = "",
        target_key: str = "",
        associated_data: bytes = b"",
        new_associated_data: bytes | None = None,
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.ReEncrypted:
        """Moves a JWE to another key, or to the primary version of its own. The plaintext does not leave the agent.

        :param new_associated_data: in place of `associated_data`; empty binds none; None carries it over
        """
        fields = {
            "jwe": jwe,
            "source_key": source_key,
            "target_key": target_key,
            "associated_data": associated_data,
            "new_associated_data": new_associated_data,
        }
        answer = self._call("ReEncrypt", fields, deadline, correlation_id)
        return t.ReEncrypted(
            jwe=answer.jwe,
            envelope=convert.envelope(answer.envelope),
            source_key_used=convert.key_used(answer, "source_key_used"),
            source_algorithm_used=answer.source_algorithm_used,
        )

    def rewrap(
        self,
        jwe: str,
        *,
        source_key: str = "",
        add: Sequence[t.Recipient] = (),
        remove: Sequence[str] = (),
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.Rewrapped:
        """Adds, removes or replaces recipients of a JSON JWE; its payload is not decrypted.

        Who was taken out may have kept the content key: to shut somebody out, use `re_encrypt`.

        :param remove: `kid` of each recipient to take out
        """
        fields = {"jwe": jwe, "source_key": source_key, "add": convert.recipients(add), "remove": remove}
        answer = self._call("Rewrap", fields, deadline, correlation_id)
        return t.Rewrapped(
            jwe=answer.jwe,
            envelope=convert.envelope(answer.envelope),
            source_key_used=convert.key_used(answer, "source_key_used"),
            source_algorithm_used=answer.source_algorithm_used,
            keys_used=convert.keys_used(answer.keys_used),
            inside_token=answer.inside_token,
        )

    def re_sign(
        self,
        jws: str,
        *,
        message: bytes | None = None,
        source_key: str = "",
        target_key: str = "",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.ReSigned:
        """Verifies a JWS and signs its payload by another key, or by the primary version of its own, in the same form.

        :param message: the signed data of a detached JWS
        :raises MortiseError: SIGNATURE_INVALID where it does not verify
        """
        fields = {"jws": jws, "message": message, "source_key": source_key, "target_key": target_key}
        answer = self._call("ReSign", fields, deadline, correlation_id)
        return t.ReSigned(
            jws=answer.jws,
            envelope=convert.envelope(answer.envelope),
            source_key_used=convert.key_used(answer, "source_key_used"),
            source_algorithm_used=answer.source_algorithm_used,
        )

    def generate_data_key(
        self,
        key: str,
        *,
        length: int = 32,
        wrapped_only: bool = False,
        associated_data: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.DataKey:
        """Makes a data key of 16, 24, 32 or 64 bytes and the same wrapped by a key."""
        fields = {"key": key, "length": length, "wrapped_only": wrapped_only, "associated_data": associated_data}
        answer = self._call("GenerateDataKey", fields, deadline, correlation_id)
        return t.DataKey(answer.data_key, answer.wrapped_data_key, convert.envelope(answer.envelope))

    def decrypt_data_key(
        self,
        wrapped_data_key: str,
        *,
        key: str = "",
        associated_data: bytes = b"",
        deadline: float | None = None,
        correlation_id: str | None = None,
    ) -> t.DataKey:
        """Unwraps a data key.

        :raises MortiseError: INVALID_CIPHERTEXT
        """
        fields = {"wrapped_data_key": wrapped_data_key, "key": key, "associated_data": associated_data}
        answer = self._call("DecryptDataKey", fields, deadline, correlation_id)
        return t.DataKey(answer.data_key, "", convert.envelope(answer.envelope))
