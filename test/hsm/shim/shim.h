/* What the files of the shim share: the few types of PKCS #11 that it looks into, the parsed control file, and the words
   of the state file. Invariant: everything here is read and written under `lock` but the state file's atomic words. */
#ifndef SHIM_H
#define SHIM_H
#include <pthread.h>
#include <stdint.h>

typedef unsigned long ulong_t;
typedef unsigned char byte_t;
typedef struct { ulong_t type; void *value; ulong_t length; } attribute_t;
typedef struct { ulong_t mechanism; void *parameter; ulong_t length; } mechanism_t;
typedef struct { byte_t *iv; ulong_t iv_length, iv_bits; byte_t *aad; ulong_t aad_length, tag_bits; } gcm_t;

/* pkcs11f.h of 3.2, in order. */
#define FUNCTIONS(X) \
  X(Initialize) X(Finalize) X(GetInfo) X(GetFunctionList) X(GetSlotList) X(GetSlotInfo) X(GetTokenInfo) X(GetMechanismList) \
  X(GetMechanismInfo) X(InitToken) X(InitPIN) X(SetPIN) X(OpenSession) X(CloseSession) X(CloseAllSessions) X(GetSessionInfo) \
  X(GetOperationState) X(SetOperationState) X(Login) X(Logout) X(CreateObject) X(CopyObject) X(DestroyObject) X(GetObjectSize) \
  X(GetAttributeValue) X(SetAttributeValue) X(FindObjectsInit) X(FindObjects) X(FindObjectsFinal) X(EncryptInit) X(Encrypt) \
  X(EncryptUpdate) X(EncryptFinal) X(DecryptInit) X(Decrypt) X(DecryptUpdate) X(DecryptFinal) X(DigestInit) X(Digest) \
  X(DigestUpdate) X(DigestKey) X(DigestFinal) X(SignInit) X(Sign) X(SignUpdate) X(SignFinal) X(SignRecoverInit) X(SignRecover) \
  X(VerifyInit) X(Verify) X(VerifyUpdate) X(VerifyFinal) X(VerifyRecoverInit) X(VerifyRecover) X(DigestEncryptUpdate) \
  X(DecryptDigestUpdate) X(SignEncryptUpdate) X(DecryptVerifyUpdate) X(GenerateKey) X(GenerateKeyPair) X(WrapKey) X(UnwrapKey) \
  X(DeriveKey) X(SeedRandom) X(GenerateRandom) X(GetFunctionStatus) X(CancelFunction) X(WaitForSlotEvent) \
  X(GetInterfaceList) X(GetInterface) X(LoginUser) X(SessionCancel) X(MessageEncryptInit) X(EncryptMessage) \
  X(EncryptMessageBegin) X(EncryptMessageNext) X(MessageEncryptFinal) X(MessageDecryptInit) X(DecryptMessage) \
  X(DecryptMessageBegin) X(DecryptMessageNext) X(MessageDecryptFinal) X(MessageSignInit) X(SignMessage) X(SignMessageBegin) \
  X(SignMessageNext) X(MessageSignFinal) X(MessageVerifyInit) X(VerifyMessage) X(VerifyMessageBegin) X(VerifyMessageNext) \
  X(MessageVerifyFinal) X(EncapsulateKey) X(DecapsulateKey) X(VerifySignatureInit) X(VerifySignature) X(VerifySignatureUpdate) \
  X(VerifySignatureFinal) X(GetSessionValidationFlags) X(AsyncComplete) X(AsyncGetID) X(AsyncJoin) X(WrapKeyAuthenticated) \
  X(UnwrapKeyAuthenticated)
enum {
#define NUMBER(name) F_##name,
  FUNCTIONS(NUMBER)
#undef NUMBER
  FUNCTION_COUNT,
  FUNCTIONS_2_40 = F_GetInterfaceList,
  FUNCTIONS_3_0 = F_EncapsulateKey,
  ANY = -1
};
enum { AES_GCM = 0x1087 };
enum { A_TOKEN = 0x001, A_ID = 0x102 };
enum { CKR_ARGUMENTS_BAD = 0x07, CKR_ATTRIBUTE_SENSITIVE = 0x11, CKR_ATTRIBUTE_TYPE_INVALID = 0x12, CKR_DEVICE_MEMORY = 0x31,
       CKR_DEVICE_REMOVED = 0x32, CKR_FUNCTION_NOT_SUPPORTED = 0x54, CKR_KEY_HANDLE_INVALID = 0x60, CKR_MECHANISM_INVALID = 0x70,
       CKR_MECHANISM_PARAM_INVALID = 0x71, CKR_OBJECT_HANDLE_INVALID = 0x82, CKR_PIN_INCORRECT = 0xa0, CKR_PIN_LOCKED = 0xa4,
       CKR_SESSION_COUNT = 0xb1, CKR_SESSION_HANDLE_INVALID = 0xb3, CKR_TOKEN_NOT_PRESENT = 0xe0,
       CKR_USER_ALREADY_LOGGED_IN = 0x100, CKR_USER_NOT_LOGGED_IN = 0x101, CKR_BUFFER_TOO_SMALL = 0x150,
       CKR_CRYPTOKI_NOT_INITIALIZED = 0x190, CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191 };

/* --- the control file --- */
enum { MANY = 256, TEXT = 256, BYTES = 64, FAULTS = 4096 };
typedef enum { NOTHING, RETURN, RETURN_AFTER, DELAY, HANG, SEGV, ABORT, CORRUPT, LOSE_SESSION } action_t;
typedef enum { IV_CALLER, IV_APPENDED, IV_ZEROED } iv_rule_t;
typedef enum { LOGIN_PLAIN, LOGIN_COLON, LOGIN_IGNORED, LOGIN_REFUSED } login_t;
typedef struct { int id, function; unsigned skip, times; int stored; byte_t prefix[BYTES]; int prefix_length;
                 action_t action; ulong_t value; } fault_t;
typedef struct { int function; ulong_t mechanism, ckr; } refusal_t;      /* mechanism ~0: any */
typedef struct { int function; ulong_t bytes, ckr; } limit_t;
typedef struct { int function; ulong_t type; int length; byte_t value[BYTES]; } lie_t; /* length -1: left out of the template */
typedef struct {
  char real[TEXT], pin[TEXT], given_pin[TEXT];
  char manufacturer[TEXT], description[TEXT], token_label[TEXT], token_manufacturer[TEXT], token_model[TEXT];
  int library_version, firmware; /* major * 256 + minor; -1: as it is */
  ulong_t hidden[MANY], shown[MANY];
  refusal_t refusals[MANY];
  limit_t limits[MANY];
  lie_t attributes[MANY], templates[MANY];
  fault_t faults[MANY];
  int hidden_count, shown_count, refusal_count, limit_count, attribute_count, template_count, fault_count;
  iv_rule_t iv; ulong_t iv_bytes;
  login_t login; ulong_t login_ckr; ulong_t lockout;
  ulong_t read_only_ckr;                                    /* 0: read-only sessions are given */
  ulong_t max_sessions, max_sessions_ckr, all_sessions, all_sessions_ckr, max_objects, max_objects_ckr;
  ulong_t session_epoch, client_epoch, lost_ckr, absent;    /* absent: the CKR of sessions, 0 where the token is there */
  ulong_t client_ckr, idle_ms;                              /* what a forgotten client is told; forgotten after so long without a call */
  int wants_stored;                                         /* some fault asks whether the key is a token object */
  int half;                                                 /* every second object is missing */
} control_t;

extern control_t control;
extern pthread_mutex_t lock;
/* Reads the control file if the state file says that it is a new one. */
void control_refresh(void);
/* The fault with this id, or 0. */
const fault_t *control_fault(int id);
int function_named(const char *name);

/* --- the state file, shared with the test and with other processes of the same token --- */
enum { CLIENTS = 64 };
typedef struct { uint32_t pid, sessions; } client_t;
typedef struct {
  uint32_t version;                                         /* written by the test after each new control file */
  uint32_t refused_logins;
  int32_t objects;
  uint32_t most_sessions;                                   /* of all processes together, at once, ever */
  uint32_t calls[256];                                      /* by number of the function */
  uint32_t matched[FAULTS], fired[FAULTS];                  /* by id of the fault */
  client_t clients[CLIENTS];
} state_t;
extern state_t *state;
extern int state_file;
int state_open(void);

/* --- the real module --- */
typedef ulong_t (*function_t)(ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t);
ulong_t call_real(int function, const ulong_t *a);

/* --- sessions --- */
typedef struct {
  ulong_t handle, epoch;
  int lost, stored;                                         /* stored: the key of its operation is a token object */
  byte_t iv[16]; ulong_t iv_bytes; byte_t *iv_out; int gcm; /* of an encryption whose IV the token makes */
  gcm_t parameters; mechanism_t mechanism;                  /* what the real token is given for it */
} session_t;
session_t *session_of(ulong_t handle);
int session_count(void);

/* --- clients.c: sessions of all processes. The first is false where `most` (0: any number) are open. --- */
int client_opens(ulong_t most);
void client_has(int sessions);

/* --- rules.c: what a vendor's module does otherwise. The first returns a CKR that ends the call, or 0. --- */
typedef struct { ulong_t a[8]; attribute_t copied[64]; char pin[TEXT]; } call_t;
ulong_t rules_before(int function, call_t *call);
ulong_t rules_after(int function, call_t *call, ulong_t rv);
int has_mechanism(int function);
#endif
