# The state of one direction of a TLS connection: what its records and messages have shown so far.

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from tigerfox.dataplane.app.buffer cimport AppSpan
from tigerfox.dataplane.app.x509 cimport X509Text

cdef enum:
    TLS_CERTS = 8                # certificates of a chain whose place is kept
    TLS_RECORD_MAX = 17408       # 2^14 + 1024, as in Suricata 7
    TLS_SNI_MAX = 255

cdef enum TlsFault:
    TLS_NONE = 0
    TLS_RECORD_TYPE = 1          # not 20 to 24
    TLS_RECORD_VERSION = 2       # first byte is not 3
    TLS_RECORD_LENGTH = 3        # over TLS_RECORD_MAX
    TLS_SSL2_LENGTH = 4          # an SSLv2 record too short for its own head
    TLS_STATE = 5                # offsets in the state that leave the buffer
    TLS_HELLO_ROOM = 6           # bound: a hello, or what is derived of it, is larger than the buffer

cdef enum TlsPhase:
    TLS_START = 0                # nothing seen: the first record decides whether this is TLS
    TLS_HEAD = 1                 # at a record's head
    TLS_BODY = 2
    TLS_ENCRYPTED = 3
    TLS_REFUSED = 4              # another protocol
    TLS_FAILED = 5

cdef enum TlsSeen:               # bits
    TLS_SEEN_CLIENT_HELLO = 1
    TLS_SEEN_SERVER_HELLO = 2
    TLS_SEEN_CERTIFICATE = 4
    TLS_SEEN_SSL2 = 8            # an SSLv2 hello
    TLS_SEEN_CHANGE_CIPHER = 16
    TLS_SEEN_DATA = 32           # an application data record
    TLS_SEEN_ALERT = 64
    TLS_SEEN_CLIENT_KEYS = 128
    TLS_SEEN_SERVER_KEYS = 256
    TLS_SEEN_HELLO_DONE = 512
    TLS_SEEN_EARLY_DATA = 1024   # the client hello announces it
    TLS_SEEN_TICKET = 2048       # the client hello has a session ticket extension

cdef enum TlsEvent:              # bits; names as Suricata's tls.* events where it has them
    TLS_EVENT_HELLO_BROKEN = 1           # handshake_invalid_length in a hello
    TLS_EVENT_SNI_LENGTH = 2             # invalid_sni_length
    TLS_EVENT_SNI_TYPE = 4               # invalid_sni_type
    TLS_EVENT_SNI_AGAIN = 8              # multiple_sni_extensions
    TLS_EVENT_MESSAGE_TYPE = 16          # invalid_handshake_message
    TLS_EVENT_CERT_BROKEN = 32           # invalid_certificate
    TLS_EVENT_CERT_CUT = 64              # bound: more certificates or text than there is room for
    TLS_EVENT_HELLO_AGAIN = 128          # a further hello; the first one counts
    TLS_EVENT_CIPHER_EARLY = 256         # ChangeCipherSpec or data before a hello or within a message: passed over
    TLS_EVENT_EMPTY_RECORD = 512         # a handshake record without a byte

cdef struct TlsHello:            # spans of the buffer; read once, from the first hello of the direction
    uint16_t version             # of the hello itself
    uint16_t chosen              # supported_versions: the client's first valid one, or the server's choice; else 0
    uint16_t cipher              # server's
    uint16_t cipher_count
    uint16_t extension_count
    uint16_t zero
    AppSpan sni                  # bytes as they came, case kept
    AppSpan alpn                 # names with their length bytes, as on the wire (RFC 7301)
    AppSpan ciphers              # client's, two bytes each in network order
    AppSpan extensions           # the block of extensions
    AppSpan ja3                  # JA3 of a client, JA3S of a server
    AppSpan ja3_hash             # 32 characters

cdef struct TlsState:            # one direction; all zero at its start; no pointers
    uint8_t phase                # TlsPhase
    uint8_t fault                # TlsFault
    uint8_t head_have
    uint8_t content              # type of the record; 0: SSLv2, passed over
    uint8_t message_type
    uint8_t message_have         # of the four bytes of a message's head
    uint8_t keep                 # the message's body goes into the buffer
    uint8_t x509_fault           # of the first certificate
    uint8_t head[12]             # of the record, and from 8 on of the message, which may begin in one record and end in another
    uint16_t record_version      # of the last record
    uint16_t cert_count          # certificates in the chain
    uint32_t record_left
    uint32_t message_left
    uint32_t message_off
    uint32_t message_stored
    uint32_t seen                # TlsSeen bits
    uint32_t events              # TlsEvent bits
    uint32_t records
    TlsHello hello
    AppSpan certs[TLS_CERTS]     # DER, in the buffer
    X509Text cert                # of the first one, the end entity's
    AppSpan fingerprint          # SHA-1 of the first one, "aa:bb:.."
