/* What a vendor's module does otherwise than the real one below: mechanisms and uses that it lacks, who makes the IV of
   AES-GCM, PIN forms, limits, names; and lies about attributes. Called under the lock, before and after the real call. */
#define _GNU_SOURCE
#include "shim.h"
#include <string.h>
#include <sys/random.h>

int has_mechanism(int f) {
  switch (f) {
    case F_EncryptInit: case F_DecryptInit: case F_DigestInit: case F_SignInit: case F_SignRecoverInit: case F_VerifyInit:
    case F_VerifyRecoverInit: case F_GenerateKey: case F_GenerateKeyPair: case F_WrapKey: case F_UnwrapKey: case F_DeriveKey:
    case F_EncapsulateKey: case F_DecapsulateKey: return 1;
    default: return 0;
  }
}
/* Whether the third argument is a key that is there already. */
static int uses_key(int f) { return has_mechanism(f) && f != F_GenerateKey && f != F_GenerateKeyPair && f != F_DigestInit; }
static int is_hidden(ulong_t mechanism) {
  for (int at = 0; at < control.hidden_count; at++) if (control.hidden[at] == mechanism) return 1;
  for (int at = 0; at < control.shown_count; at++) if (control.shown[at] == mechanism) return 0;
  return control.shown_count > 0;
}

/* Where the template of a function stands among its arguments; 0 where it has none. */
static int template_at(int f) {
  switch (f) {
    case F_CreateObject: return 1;
    case F_GenerateKey: return 2;
    case F_DeriveKey: case F_DecapsulateKey: return 3;
    case F_GenerateKeyPair: return 4; /* of the private key */
    case F_UnwrapKey: return 5;
    default: return 0;
  }
}
static void rewrite_template(int f, call_t *call) {
  int at = template_at(f);
  if (!at || !control.template_count || call->a[at + 1] > 64) return;
  const attribute_t *given = (const attribute_t *)call->a[at];
  ulong_t count = 0;
  for (ulong_t index = 0; index < call->a[at + 1]; index++) {
    attribute_t one = given[index];
    int drop = 0;
    for (int rule = 0; rule < control.template_count; rule++) {
      lie_t *lie = &control.templates[rule];
      if ((lie->function != f && lie->function != ANY) || lie->type != one.type) continue;
      drop = lie->length < 0;
      one.value = lie->value;
      one.length = (ulong_t)lie->length;
    }
    if (!drop) call->copied[count++] = one;
  }
  call->a[at] = (ulong_t)call->copied;
  call->a[at + 1] = count;
}
static int makes_stored(int f, const call_t *call) {
  int at = template_at(f);
  if (!at) return 0;
  const attribute_t *given = (const attribute_t *)call->a[at];
  for (ulong_t index = 0; index < call->a[at + 1]; index++)
    if (given[index].type == A_TOKEN && given[index].length == 1) return *(byte_t *)given[index].value;
  return 0;
}

/* An attribute that the real token is asked for; the length, or 0. */
static ulong_t read_attribute(ulong_t session, ulong_t object, ulong_t type, byte_t *into, ulong_t room) {
  attribute_t one = {type, into, room};
  ulong_t a[8] = {session, object, (ulong_t)&one, 1};
  return call_real(F_GetAttributeValue, a) == 0 && one.length <= room ? one.length : 0;
}
static int is_missing(ulong_t session, ulong_t object) {
  byte_t id[64], sum = 0;
  ulong_t length = read_attribute(session, object, A_ID, id, sizeof id);
  for (ulong_t at = 0; at < length; at++) sum ^= id[at];
  return sum & 1;
}
static ulong_t missing_object(int f, const call_t *call) {
  if (!control.half) return 0;
  int object = f == F_GetAttributeValue || f == F_SetAttributeValue || f == F_DestroyObject;
  if (uses_key(f) && is_missing(call->a[0], call->a[2])) return CKR_KEY_HANDLE_INVALID;
  return object && is_missing(call->a[0], call->a[1]) ? CKR_OBJECT_HANDLE_INVALID : 0;
}

/* C_EncryptInit of AES-GCM where the token makes the IV. */
static ulong_t token_iv(call_t *call, session_t *session) {
  session->gcm = 0;
  if (control.iv == IV_CALLER) return 0;
  const mechanism_t *given = (const mechanism_t *)call->a[1];
  if (given->mechanism != AES_GCM) return 0;
  gcm_t *gcm = &session->parameters;
  if (given->length != sizeof *gcm) return CKR_MECHANISM_PARAM_INVALID;
  memcpy(gcm, given->parameter, sizeof *gcm);
  session->iv_out = 0;
  if (control.iv == IV_APPENDED) {
    if (gcm->iv_length != 0 || (gcm->iv_bits != 0 && gcm->iv_bits != 8 * control.iv_bytes)) return CKR_MECHANISM_PARAM_INVALID;
  } else {
    if (!gcm->iv || gcm->iv_length != control.iv_bytes) return CKR_MECHANISM_PARAM_INVALID;
    for (ulong_t at = 0; at < gcm->iv_length; at++) if (gcm->iv[at]) return CKR_MECHANISM_PARAM_INVALID;
    session->iv_out = gcm->iv; /* written when the data comes, so it has to live until then */
  }
  session->gcm = 1;
  session->iv_bytes = control.iv_bytes;
  if (getrandom(session->iv, session->iv_bytes, 0) < 0) return CKR_ARGUMENTS_BAD;
  gcm->iv = session->iv;
  gcm->iv_length = session->iv_bytes;
  gcm->iv_bits = 8 * session->iv_bytes;
  session->mechanism = (mechanism_t){AES_GCM, gcm, sizeof *gcm};
  call->a[1] = (ulong_t)&session->mechanism;
  return 0;
}
static ulong_t before_encrypt(call_t *call, session_t *session) {
  if (!session->gcm || session->iv_out || !call->a[3]) return 0;
  ulong_t *room = (ulong_t *)call->a[4];
  if (*room < call->a[2] + 16 + session->iv_bytes) { *room = call->a[2] + 16 + session->iv_bytes; return CKR_BUFFER_TOO_SMALL; }
  return 0;
}
static void after_encrypt(call_t *call, session_t *session) {
  ulong_t *length = (ulong_t *)call->a[4];
  if (!session->gcm) return;
  if (session->iv_out && call->a[3]) memcpy(session->iv_out, session->iv, session->iv_bytes);
  if (!session->iv_out) {
    if (call->a[3]) memcpy((byte_t *)call->a[3] + *length, session->iv, session->iv_bytes);
    *length += session->iv_bytes;
  }
  if (call->a[3]) session->gcm = 0;
}

static ulong_t refuse_login(ulong_t ckr) {
  __atomic_add_fetch(&state->refused_logins, 1, __ATOMIC_ACQ_REL);
  return ckr;
}
static ulong_t login(call_t *call) {
  const char *pin = (const char *)call->a[2];
  ulong_t length = call->a[3];
  if (control.lockout && state->refused_logins >= control.lockout) return CKR_PIN_LOCKED;
  if (control.login == LOGIN_REFUSED) return refuse_login(control.login_ckr);
  const char *colon = length ? memchr(pin, ':', length) : 0;
  if (control.login == LOGIN_COLON && !colon) return refuse_login(control.login_ckr);
  if (control.given_pin[0] && control.login != LOGIN_IGNORED &&
      (length != strlen(control.given_pin) || memcmp(pin, control.given_pin, length))) return refuse_login(CKR_PIN_INCORRECT);
  if (control.given_pin[0] || control.login == LOGIN_IGNORED) {
    memcpy(call->pin, control.pin, sizeof call->pin);
    call->a[2] = (ulong_t)call->pin;
    call->a[3] = strlen(call->pin);
  } else if (control.login == LOGIN_COLON) {
    call->a[2] = (ulong_t)(colon + 1);
    call->a[3] = length - (ulong_t)(colon + 1 - pin);
  }
  return 0;
}

ulong_t rules_before(int f, call_t *call) {
  ulong_t *a = call->a;
  session_t *session = f > F_OpenSession ? session_of(a[0]) : 0;
  if (f == F_OpenSession) {
    if (control.read_only_ckr && !(a[1] & 2)) return control.read_only_ckr;
    if (control.max_sessions_ckr && (ulong_t)session_count() >= control.max_sessions) return control.max_sessions_ckr;
  }
  if (f == F_GetMechanismInfo && is_hidden(a[1])) return CKR_MECHANISM_INVALID;
  for (int at = 0; at < control.refusal_count; at++) {
    refusal_t *rule = &control.refusals[at];
    if (rule->function != f) continue;
    if (rule->mechanism == ~0ul || (has_mechanism(f) && a[1] && rule->mechanism == ((mechanism_t *)a[1])->mechanism)) return rule->ckr;
  }
  if (has_mechanism(f) && a[1] && is_hidden(((mechanism_t *)a[1])->mechanism)) return CKR_MECHANISM_INVALID;
  for (int at = 0; at < control.limit_count; at++)
    if (control.limits[at].function == f && a[2] > control.limits[at].bytes) return control.limits[at].ckr;
  ulong_t missing = missing_object(f, call);
  if (missing) return missing;
  if (f == F_Login) return login(call);
  if (control.max_objects_ckr && makes_stored(f, call) && state->objects >= (int32_t)control.max_objects) return control.max_objects_ckr;
  rewrite_template(f, call);
  if (!session) return 0;
  byte_t stored = 0;
  if (f == F_DestroyObject) session->stored = read_attribute(a[0], a[1], A_TOKEN, &stored, 1) == 1 && stored;
  else if (uses_key(f)) {
    if (control.wants_stored) session->stored = read_attribute(a[0], a[2], A_TOKEN, &stored, 1) == 1 && stored;
  } else if (template_at(f)) session->stored = makes_stored(f, call);
  if (f == F_EncryptInit && a[1]) return token_iv(call, session);
  return f == F_Encrypt ? before_encrypt(call, session) : 0;
}

static void pad(char *into, int size, const char *text) {
  if (!text[0]) return;
  memset(into, ' ', (size_t)size);
  memcpy(into, text, strnlen(text, (size_t)size));
}
static void version(byte_t *into, int value) {
  if (value >= 0) { into[0] = (byte_t)(value / 256); into[1] = (byte_t)(value % 256); }
}
static ulong_t attribute_lies(call_t *call, ulong_t rv) {
  attribute_t *asked = (attribute_t *)call->a[2];
  for (ulong_t index = 0; index < call->a[3]; index++)
    for (int at = 0; at < control.attribute_count; at++) {
      lie_t *lie = &control.attributes[at];
      if (lie->type != asked[index].type) continue;
      if (lie->length < 0) { asked[index].length = ~0ul; rv = CKR_ATTRIBUTE_TYPE_INVALID; continue; }
      if (asked[index].value) memcpy(asked[index].value, lie->value, (size_t)lie->length);
      asked[index].length = (ulong_t)lie->length;
      if (rv == CKR_ATTRIBUTE_SENSITIVE || rv == CKR_ATTRIBUTE_TYPE_INVALID) rv = 0;
    }
  return rv;
}

ulong_t rules_after(int f, call_t *call, ulong_t rv) {
  ulong_t *a = call->a;
  if (f == F_GetAttributeValue && control.attribute_count) return attribute_lies(call, rv);
  if (rv) return rv;
  session_t *session = f > F_OpenSession ? session_of(a[0]) : 0;
  if (f == F_GetInfo) { /* CK_INFO: version, manufacturerID[32], flags, libraryDescription[32], libraryVersion */
    char *info = (char *)a[0];
    pad(info + 2, 32, control.manufacturer);
    pad(info + 48, 32, control.description);
    version((byte_t *)info + 80, control.library_version);
  } else if (f == F_GetTokenInfo) { /* CK_TOKEN_INFO: label[32], manufacturerID[32], model[16], … firmwareVersion at 186 */
    char *info = (char *)a[1];
    pad(info, 32, control.token_label);
    pad(info + 32, 32, control.token_manufacturer);
    pad(info + 64, 16, control.token_model);
    version((byte_t *)info + 186, control.firmware);
  } else if (f == F_GetMechanismList && a[1]) {
    ulong_t *list = (ulong_t *)a[1], *count = (ulong_t *)a[2], kept = 0;
    for (ulong_t at = 0; at < *count; at++) if (!is_hidden(list[at])) list[kept++] = list[at];
    *count = kept;
  } else if (f == F_FindObjects && control.half) {
    ulong_t *list = (ulong_t *)a[1], *count = (ulong_t *)a[3], kept = 0;
    for (ulong_t at = 0; at < *count; at++) if (!is_missing(a[0], list[at])) list[kept++] = list[at];
    *count = kept;
  } else if (f == F_Encrypt && session) after_encrypt(call, session);
  else if (f == F_DestroyObject && session && session->stored) __atomic_sub_fetch(&state->objects, 1, __ATOMIC_ACQ_REL);
  else if (makes_stored(f, call)) __atomic_add_fetch(&state->objects, f == F_GenerateKeyPair ? 2 : 1, __ATOMIC_ACQ_REL);
  return rv;
}
