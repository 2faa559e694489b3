"""Every kind of mistake in a rule: where it is told, what is wrong and what to write.

One row a mistake. The guard at the end runs all rows and fails where the source can refuse something that no row meets.
"""

import ast
import sys
from pathlib import Path

import pytest

from tigerfox import ruleset
from tigerfox.dataplane.image import CompiledRules
from tigerfox.errors import RuleError
from tigerfox.ruleset.check import load_rules, read_rule_text
from tigerfox.ruleset.compile import compile_rules
from tigerfox.ruleset.keywords import TABLE
from tigerfox.ruleset.variables import Variables

VALUES = {"LOOP": "[10.0.0.0/8,$POOL]", "POOL": "!$LOOP", "WORD": "ssh", "OPEN": "[10.0.0.1"}

# Options of a tcp rule (KEYWORDS: of an ip rule that drops), or whole rules. The fault is told at the ~, which is taken out.

CONTENT = [
    ('content:~"";', 'content: nothing stands between the quotes; write e.g. content:"GET |2f|";'),
    ('content:"~||";', 'content: nothing is looked for; write bytes between the quotes, e.g. content:"abc"'),
    ("content:~abc;", 'content: the value must stand in quotes; write e.g. content:"GET |2f|";'),
    ("content:~!abc;", 'content: the value must stand in quotes; write e.g. content:"GET |2f|";'),
    ("~content;", 'content: the value is missing; write e.g. content:"GET |2f|";'),
    ('content:~"abc;', 'content: the closing quote is missing; write a " before the ;, and \\; for a ; between the quotes'),
    ('content:"ab~"c";', 'content: a " inside the quotes; write \\" or |22|'),
    ('content:"ab~\\n";', "content: '\\\\n': a \\ stands before ; : \" and \\ alone; write |5C| for a \\ that is meant"),
    ('content:"ab~|41";', "content: this | has no second one; write |41 42| for bytes and |7C| for a | itself"),
    ('content:"|41 4~g|";', "content: 'g' between | and | is not hexadecimal; write two digits 0-9 a-f for each byte"),
    ('content:"|~22 2 22|";', "content: '22 2 22' has half a byte; write two hexadecimal digits for each byte"),
    ("~nocase;", 'nocase: no content stands before it; write content:"..."; nocase...; in this order'),
    ("offset:~3;", 'offset: no content stands before it; write content:"..."; offset...; in this order'),
    ('content:"ab"; nocase; ~nocase;', "nocase: stands twice behind one content; write it once"),
    ('content:"ab"; depth:2; depth:~2;', "depth: stands twice behind one content; write one depth"),
    ('content:"ab"; offset:2; offset:~2;', "offset: stands twice behind one content; write one offset"),
    ('content:"ab"; distance:2; distance:~2;', "distance: stands twice behind one content; write one distance"),
    ('content:"ab"; within:2; within:~2;', "within: stands twice behind one content; write one within"),
    ('content:"abc"; depth:~2;', "depth: 2 is smaller than the content's 3 bytes, so it never matches; write depth:3 or more"),
    ('content:"abc"; within:~2;', "within: 2 is smaller than the content's 3 bytes, so it never matches; write within:3 or more"),
    ('content:"ab"; depth:~70000;', "depth: '70000' is not a depth; write a number from 0 to 65535, or a variable's name"),
    ('content:"ab"; offset:~-1;', "offset: '-1' is not an offset; write a number from 0 to 65535, or a variable's name"),
    ('content:"ab"; offset:~x;', "offset: 'x' is set nowhere before it; write a number, or byte_extract:...,x; before it"),
    ('content:"ab"; distance:~1048577;',
     "distance: '1048577' is not a distance; write a number from -1048576 to 1048576, or a variable's name"),
    ('content:"ab"; distance:~-1048577;',
     "distance: '-1048577' is not a distance; write a number from -1048576 to 1048576, or a variable's name"),
    ('content:"ab"; depth:5; distance:~1;',
     "distance: distance and within do not go with depth, offset and startswith on one content; take the one or the other away"),
    ('content:"ab"; within:5; offset:~1;',
     "offset: distance and within do not go with depth, offset and startswith on one content; take the one or the other away"),
    ('content:"ab"; offset:1; within:~5;',
     "within: distance and within do not go with depth, offset and startswith on one content; take the one or the other away"),
    ('content:"ab"; startswith; depth:~5;', "depth: depth does not go with startswith; take one of the two away"),
    ('content:"ab"; startswith; distance:~5;',
     "distance: distance and within do not go with depth, offset and startswith on one content; take the one or the other away"),
    ('content:"ab"; depth:5; ~startswith;', "startswith: does not go with depth, offset, distance and within; take them away"),
    ('content:"ab"; within:5; ~startswith;', "startswith: does not go with depth, offset, distance and within; take them away"),
    ('content:"ab"; startswith; ~startswith;', "startswith: stands twice behind one content; write it once"),
    ('content:"ab"; fast_pattern; content:"cd"; ~fast_pattern;',
     "fast_pattern: one content of a rule alone can be it; take this or the other fast_pattern away"),
    ('content:"ab"; fast_pattern; ~fast_pattern;',
     "fast_pattern: one content of a rule alone can be it; take this or the other fast_pattern away"),
    ('content:"ab"; fast_pattern:~1,2;', "fast_pattern: 1,2 is not inside the content's 2 bytes; write fast_pattern:0,2 or less"),
    ('content:"ab"; fast_pattern:~0,0;', "fast_pattern: 0,0 is not inside the content's 2 bytes; write fast_pattern:0,2 or less"),
    ('content:"ab"; fast_pattern:~first;',
     "fast_pattern: 'first' is not a part of the content; write fast_pattern, fast_pattern:only or fast_pattern:0,2"),
    ('content:"ab"; content:!"cd"; distance:0; ~fast_pattern;',
     "fast_pattern: a negated content with depth, offset, distance or within cannot be it; write it behind another content"),
    ('content:!"cd"; fast_pattern; offset:~2;',
     "offset: does not go with fast_pattern on a negated content; take fast_pattern away"),
    ('content:"ab"; offset:2; fast_pattern:~only;',
     "fast_pattern: only does not go with a negated content, nor with depth, offset, distance and within; write fast_pattern "
     "alone"),
    ('content:!"ab"; fast_pattern:~only;',
     "fast_pattern: only does not go with a negated content, nor with depth, offset, distance and within; write fast_pattern "
     "alone"),
    ('content:"ab"; fast_pattern:only; offset:~2;', "offset: does not go with fast_pattern:only; write fast_pattern alone"),
    ('content:"ab"; fast_pattern:only; content:"cd"; distance:~0;',
     "distance: the content before it has fast_pattern:only, which leaves no place to count from; write fast_pattern there"),
    ('content:"ab"; fast_pattern:only; content:"cd"; within:~5;',
     "within: the content before it has fast_pattern:only, which leaves no place to count from; write fast_pattern there"),
    ('content:"ab"; rawbytes; ~rawbytes;', "rawbytes: stands twice behind one content; write it once"),
    ('http.uri; content:"ab"; ~rawbytes;', "rawbytes: does not go with the sticky buffer http.uri; take it away"),
    ('content:"ab"; nocase:~1;', "nocase: takes no value; write nocase;"),
    ("~prefilter;", "prefilter: no test stands before it; write it behind one"),
    ("flowbits:isset,a; ~prefilter;",
     "prefilter: does not go with flowbits; write it behind one of ack app-layer-protocol content dsize flags fragbits "
     "fragoffset icmp_id icmp_seq icode id ipopts itype sameip seq stream_size tos ttl uricontent window"),
    ('content:"ab"; prefilter; ~prefilter;', "prefilter: stands twice in this rule; write it once"),
    ('http.host; content:"a"; ~content:"A";', "content: http.host is in lower case; write the content in lower case"),
    ('http.host; ~content:"a"; nocase;', "content: http.host is in lower case, so nocase says nothing; take it away"),
    ('~content:"A"; http_host;', "content: http.host is in lower case; write the content in lower case"),
    ('http.method; ~content:"GET ";', "content: a method has no blank before or behind it; take the blank away"),
    ('http.method; ~content:"|09|GET";', "content: a method has no blank before or behind it; take the blank away"),
    ('ja3.hash; ~content:"abcd";', "content: a JA3 hash has 32 characters, this has 4; write the whole hash"),
    ('tls.cert_fingerprint; ~content:"0a:1b";',
     "content: a fingerprint is 20 pairs of digits with a : between; write all 59 characters"),
    ('tls.cert_serial; ~content:"0a1b";',
     "content: a serial number is written in pairs of digits with a : between; write it like 0A:1B"),
    ('~dsize:3; content:"abcd";', "dsize: the contents need 4 bytes, so it never matches; write dsize:4 or more"),
    ('~dsize:50; content:"AA"; offset:100;', "dsize: the contents need 102 bytes, so it never matches; write dsize:102 or more"),
    ('~dsize:5<>10; content:"AAAA"; offset:8;', "dsize: the contents need 12 bytes, so it never matches; write dsize:12 or more"),
    ('~dsize:6; content:"boom"; content:"loom"; distance:2;',
     "dsize: the contents need 10 bytes, so it never matches; write dsize:10 or more"),
    ('~dsize:<4; content:"abcde";', "dsize: the contents need 5 bytes, so it never matches; write dsize:5 or more"),
    ('~dsize:16; content:"abcdef"; startswith; content:"789"; distance:0; content:!"c"; distance:1; within:10;',
     "dsize: the contents need 20 bytes, so it never matches; write dsize:20 or more"),
    ('uricontent:"~||";', 'uricontent: nothing is looked for; write bytes between the quotes, e.g. uricontent:"abc"'),
    ('content:"ab"; content:"cd"; distance:1; depth:~5;',
     "depth: distance and within do not go with depth, offset and startswith on one content; take the one or the other away"),
    ('content:"ab"; startswith; offset:~5;', "offset: offset does not go with startswith; take one of the two away"),
    ('content:"ab"; offset:2; within:~-5;',
     "within: distance and within do not go with depth, offset and startswith on one content; take the one or the other away"),
    ('content:"abc"; within:~-5;', "within: -5 is smaller than the content's 3 bytes, so it never matches; write within:3 or more"),
    ('content:"ab"; depth:2; distance:~x;',
     "distance: distance and within do not go with depth, offset and startswith on one content; take the one or the other away"),
    ("~rawbytes;", 'rawbytes: no content stands before it; write content:"..."; rawbytes...; in this order'),
    ('content:"a"; http_uri; uricontent:"b~|";',
     "uricontent: this | has no second one; write |41 42| for bytes and |7C| for a | itself"),
    ('content:"~' + "é" * 32768 + '";', "content: 65536 bytes are too many; write at most 65535"),
]

BUFFERS = [
    ("~http.uri;", "http.uri: nothing is tested in this buffer; write content, pcre, bsize or the like behind it, or take it away"),
    ('http.uri; content:"a"; ~http.stat_code; isdataat:!1,relative;',
     "http.stat_code: nothing is tested in this buffer; write content, pcre, bsize or the like behind it, or take it away"),
    ('~http.uri; http.host; content:"a";',
     "http.uri: nothing is tested in this buffer; write content, pcre, bsize or the like behind it, or take it away"),
    ('~http.uri; pkt_data; content:"a";',
     "http.uri: nothing is tested in this buffer; write content, pcre, bsize or the like behind it, or take it away"),
    ('http.uri; content:"a"; ~http.host; dotprefix;',
     "http.host: nothing is tested in this buffer; write content, pcre, bsize or the like behind it, or take it away"),
    ('http.uri:~"x"; content:"a";', "http.uri: takes no value; write http.uri;"),
    ('http.uri; content:"a"; ~http_uri;',
     "http_uri: does not go with the sticky buffer http.uri; write pkt_data before the content, or http.uri; before it in place "
     "of this"),
    ('file_data; content:"a"; ~http_header;',
     "http_header: does not go with the sticky buffer file.data; write pkt_data before the content, or http.header; before it in "
     "place of this"),
    ('http.uri; uricontent:"~a";', 'uricontent: does not go with the sticky buffer http.uri; write http.uri; content:"..."'),
    ("~http_uri;", 'http_uri: no content stands before it; write content:"..."; http_uri;'),
    ('content:"a"; http_uri; ~http_host;', 'http_host: no content stands before it; write content:"..."; http_host;'),
    ('content:"a"; rawbytes; ~http_uri;', "http_uri: does not go with rawbytes; take rawbytes away"),
    ('content:"a"; ~dotprefix;',
     'dotprefix: no sticky buffer stands directly before it; write e.g. dns.query; dotprefix; content:"..."'),
    ('dns.query; content:"a"; ~dotprefix; content:"b";',
     'dotprefix: no sticky buffer stands directly before it; write e.g. dns.query; dotprefix; content:"..."'),
    ('http.uri; content:"a"; ~dns.query; content:"b";',
     "dns.query: a keyword of dns does not go with http, which the rule's head or another keyword says; write one of the two"),
    ('content:"a"; http_uri; content:"b"; ~tls.sni; content:"c";',
     "tls.sni: a keyword of tls does not go with http, which the rule's head or another keyword says; write one of the two"),
    ('http.uri; content:"a"; http.stat_code; ~content:"200";',
     "content: http.stat_code and http.uri never stand in one message; write two rules, with flowbits between them"),
    ('http.stat_code; content:"200"; http.uri; ~content:"a";',
     "content: http.uri and http.stat_code never stand in one message; write two rules, with flowbits between them"),
    ('flow:to_client; http.uri; ~content:"a";',
     "content: http.uri is in requests alone, but flow says to_client; write flow:to_server"),
    ('http.stat_code; ~content:"200"; flow:from_client;',
     "content: http.stat_code is in responses alone, but flow says to_server; write flow:to_client"),
    ('~http.response_body; content:"a"; flow:to_server;',
     "http.response_body: http.response_body is in responses alone, but flow says to_server; write flow:to_client"),
    ('http.uri; content:"a"; ~http.response_body; content:"b";',
     "http.response_body: http.response_body and http.uri never stand in one message; write two rules, with flowbits between them"),
    ('dsize:5; http.uri; ~content:"a";',
     "content: http.uri is put together from the stream and does not go with tests of one packet (flags, dsize, ttl and the "
     "like, tcp-pkt, no_stream); take those away"),
    ('flow:no_stream; http.uri; ~content:"a";',
     "content: http.uri is put together from the stream and does not go with tests of one packet (flags, dsize, ttl and the "
     "like, tcp-pkt, no_stream); take those away"),
    ('file.data; to_lowercase; ~content:"Abc";',
     "content: to_lowercase leaves no such bytes in the buffer; write the content as it looks after to_lowercase"),
    ('~base64_data; content:"a";',
     'base64_data: no base64_decode stands before it; write base64_decode; base64_data; content:"..."'),
    ('base64_decode:~bytes x; base64_data; content:"a";',
     "base64_decode: 'bytes x' does not fit; write base64_decode:bytes 20, offset 4, relative, or some of these"),
    ('base64_decode:~bytes 0; base64_data; content:"a";', "base64_decode: 'bytes 0' is out of bounds; write bytes 1 to 65535"),
    ('base64_decode; base64_data; ~url_decode; content:"a";',
     'url_decode: no sticky buffer stands directly before it; write e.g. dns.query; url_decode; content:"..."'),
    ('~udp.hdr; content:"a";', "udp.hdr: tcp packets have none; write udp or ip as the protocol"),
    ("tls.version:~2.0;", "tls.version: '2.0' is not a version of TLS; write one of 1.0 1.1 1.2 1.3, or two bytes like 0x0303"),
    ("tls.subject:~CN=a;", 'tls.subject: the value must stand in quotes; write e.g. tls.subject:"CN=example.org";'),
    ("tls.issuerdn:~CN=a;", 'tls.issuerdn: the value must stand in quotes; write e.g. tls.issuerdn:"CN=Example CA";'),
    ('http.uri; to_uppercase; ~content:"A"; nocase;',
     "content: to_uppercase leaves no such bytes in the buffer; write the content as it looks after to_uppercase"),
    ('file.data; strip_whitespace; ~content:"a b";',
     "content: strip_whitespace leaves no such bytes in the buffer; write the content as it looks after strip_whitespace"),
    ('file.data; compress_whitespace; ~content:"a  b";',
     "content: compress_whitespace leaves no such bytes in the buffer; write the content as it looks after compress_whitespace"),
    ('bsize:~10; http.uri; content:"a";', "bsize: no sticky buffer stands before it; write e.g. http.uri; bsize:10;"),
    ('http.uri; content:"abcdef"; ~bsize:5;',
     "bsize: the contents of http.uri need 6 bytes, so it never matches; write bsize:6 or more"),
    ('http.uri; content:"abc"; offset:12; ~bsize:3;',
     "bsize: the contents of http.uri need 15 bytes, so it never matches; write bsize:15 or more"),
    ('http.uri; content:"abcdef"; ~bsize:<5;',
     "bsize: the contents of http.uri need 6 bytes, so it never matches; write bsize:6 or more"),
    ('~urilen:5; http.uri; content:"/index";',
     "urilen: a content of http.uri has 6 bytes, so it never matches; write urilen:6 or more"),
    ('~urilen:<4; content:!"/index"; http_uri;',
     "urilen: a content of http.uri has 6 bytes, so it never matches; write urilen:6 or more"),
    ('~flow:only_stream; dsize:5; content:"a";',
     "flow: tests of packets do not go with tcp-stream or flow:only_stream; take one of the two away"),
    ('http.uri; ' + 'to_lowercase; ' * 7 + '~to_lowercase; content:"a";',
     "to_lowercase: more than 7 transforms of one buffer; take this away"),
    ("base64_decode:bytes 2, ~bytes 2;",
     "base64_decode: 'bytes 2' does not fit; write base64_decode:bytes 20, offset 4, relative, or some of these"),
    ("base64_decode:~offset 70000;", "base64_decode: 'offset 70000' is out of bounds; write offset 0 to 65535"),
    ("base64_decode:~relative 3;",
     "base64_decode: 'relative 3' does not fit; write base64_decode:bytes 20, offset 4, relative, or some of these"),
    ("tls.version:!~x;", "tls.version: 'x' is not a version of TLS; write one of 1.0 1.1 1.2 1.3, or two bytes like 0x0303"),
    ('~icmpv6.hdr; content:"a";', "icmpv6.hdr: tcp packets have none; write icmpv6 or ip as the protocol"),
    ('ja3.hash; ~content:"0123456789abcdef0123456789abcde";',
     "content: a JA3 hash has 32 characters, this has 31; write the whole hash"),
    ('dsize:9; ~content:"a"; http_uri;',
     "content: http.uri is put together from the stream and does not go with tests of one packet (flags, dsize, ttl and the "
     "like, tcp-pkt, no_stream); take those away"),
]

FLOWS = [
    ("flow:~to_sever;",
     "flow: 'to_sever' says nothing of a flow (did you mean to_server?); write some of to_server from_client to_client "
     "from_server established not_established stateless only_stream no_stream only_frag no_frag"),
    ("flow:to_server,~to_client;", "flow: to_client does not go with to_server; take one of the two away"),
    ("flow:established,~established;", "flow: established does not go with established; take one of the two away"),
    ("flow:established,~stateless;", "flow: stateless does not go with established; take one of the two away"),
    ("flow:only_stream,~no_stream;", "flow: no_stream does not go with only_stream; take one of the two away"),
    ("flow:no_frag,~only_frag;", "flow: only_frag does not go with no_frag; take one of the two away"),
    ("flow:to_server,established,only_stream,~no_frag;", "flow: more than three words; take one away"),
    ("flow:to_server; ~flow:established;", "flow: stands twice in this rule; write it once"),
    ("~flow;", "flow: the value is missing; write e.g. flow:established,to_server;"),
    ("flow:~,established;",
     "flow: '' says nothing of a flow; write some of to_server from_client to_client from_server established not_established "
     "stateless only_stream no_stream only_frag no_frag"),
    ("flowbits:~isst,a;",
     "flowbits: 'isst' is not done with flowbits (did you mean isset?); write one of set unset toggle isset isnotset, or noalert"),
    ("flowbits:~set;", "flowbits: the name is missing; write flowbits:set,NAME"),
    ("flowbits:set,~a|b;", "flowbits: set takes one name; write a flowbits for each"),
    ("flowbits:isset,~a|;", "flowbits: a | without a name beside it; write NAME|NAME"),
    ("flowbits:noalert,~a;", "flowbits: noalert takes no name; write flowbits:noalert"),
    ("stream_size:~server<5;",
     "stream_size: 'server<5' does not fit; write client, server, both or either, then < > = != <= or >=, then bytes: "
     "stream_size:server,<,1000"),
    ("stream_size:~host,<,5;",
     "stream_size: 'host,<,5' does not fit; write client, server, both or either, then < > = != <= or >=, then bytes: "
     "stream_size:server,<,1000"),
    ("stream_size:~server,<,4294967296;",
     "stream_size: 'server,<,4294967296' does not fit; write client, server, both or either, then < > = != <= or >=, then bytes: "
     "stream_size:server,<,1000"),
    ("app-layer-protocol:~htp;",
     "app-layer-protocol: 'htp' is not a protocol (did you mean http?); write one of http http1 tls ssh dns failed"),
    ("app-layer-protocol:~!smb;",
     "app-layer-protocol: smb: this protocol is not supported yet by this version; leave the rule out"),
    ("app-layer-protocol:~tls|http;",
     "app-layer-protocol: 'tls|http' is not a protocol (did you mean http?); write one of http http1 tls ssh dns failed"),
    ("app-layer-protocol:http; app-layer-protocol:~!tls;",
     "app-layer-protocol: the protocol is said already; take one of the two away"),
    ("app-layer-protocol:!tls; app-layer-protocol:~http;",
     "app-layer-protocol: the protocol is said already; take one of the two away"),
    ("app-layer-protocol:!tls; app-layer-protocol:~!tls;", "app-layer-protocol: !tls stands twice; write it once"),
    ('http.uri; content:"a"; app-layer-protocol:~!tls;', "app-layer-protocol: the rule is one of http already; take this away"),
    ("flowbits:set,a; flowbits:isset,~" + "b|" * 254 + "b;",
     "flowbits: more than 255 names of flow bits in a rule; write fewer"),
    ("stream_size:server,>,9; " * 255 + "stream_size:~both,>,9;", "stream_size: more than 255 of them in a rule; take this away"),
]

NUMBERS = [
    ("isdataat:~x;", "isdataat: 'x' is set nowhere before it; write a number, or byte_extract:...,x; before it"),
    ("isdataat:~65536;", "isdataat: '65536' is not a place; write a number from 0 to 65535, or a variable's name"),
    ("isdataat:~4,relativ;", "isdataat: '4,relativ' does not fit; write isdataat:10, isdataat:!1,relative or the like"),
    ("bsize:~5;", "bsize: no sticky buffer stands before it; write e.g. http.uri; bsize:10;"),
    ("http.uri; bsize:~x;", "bsize: 'x' is not a comparison; write 8, <8, >8, <=8, >=8, !8 or 5<>10"),
    ("http.uri; bsize:~5<>6;", "bsize: nothing lies between 5 and 6: the ends are not in a range; write 5<>7 or more"),
    ("urilen:~70000;", "urilen: 70000 is over 65535; write 0 to 65535"),
    ("urilen:~5,both;", "urilen: '5,both' is not a comparison; write 8, <8, >8, <=8, >=8, !8 or 5<>10"),
    ("byte_test:~1,>,1;", "byte_test: at least 4 values, separated by commas; write e.g. byte_test:2,>,100,0,relative"),
    ("byte_test:~9,>,1,0;", "byte_test: 9 bytes are too many; write at most 8"),
    ("byte_test:~24,>,1,0,string;", "byte_test: '24' is not a number of bytes; write a number from 0 to 23, or a variable's name"),
    ("byte_test:1,~=>,1,0;", "byte_test: '=>' is not a comparison; write one of < > = <= >= & ^, or ! before it"),
    ("byte_test:~1,,1,0;", "byte_test: at least 4 values, separated by commas; write e.g. byte_test:2,>,100,0,relative"),
    ("byte_test:1,~!!,1,0;", "byte_test: '!!' is not a comparison; write one of < > = <= >= & ^, or ! before it"),
    ("byte_test:1,>,~1x,0;", "byte_test: '1x' is not a value; write a number like 100 or 0x64, or a variable's name"),
    ("byte_test:1,>,~other,0;",
     "byte_test: 'other' is set nowhere before it; write a number, or byte_extract:...,other; before it"),
    ("byte_test:1,>,1, ~1.5;",
     "byte_test: '1.5' is not an offset; write a number from -2147483647 to 2147483647, or a variable's name"),
    ("byte_test:1,>,1,0,~relatve;",
     "byte_test: 'relatve' is not one of its options; write some of relative big little string hex dec oct bitmask"),
    ("byte_test:1,>,1,0,relative,~relative;", "byte_test: relative stands twice; write it once"),
    ("byte_test:1,>,1,0,~hex;", "byte_test: hex goes with string alone; write string,hex"),
    ("byte_test:1,>,1,0,string,hex,~dec;", "byte_test: hex and dec: a number has one base; take one away"),
    ("byte_test:1,>,1,0,big,~little;", "byte_test: big and little; take one away"),
    ("byte_test:1,>,1,0,~bitmask;", "byte_test: bitmask takes one value; write it behind a blank"),
    ("byte_test:1,>,1,0,bitmask ~0xg;", "byte_test: '0xg' is not a mask; write one like 0x0F"),
    ("byte_test:1,>,1,0,~relative 5;", "byte_test: relative takes no value; take it away"),
    ("byte_test:4,>,1,0,~dce;", "byte_test: dce: DCE/RPC is not supported yet by this version; write big or little"),
    ("byte_jump:~2;", "byte_jump: at least 2 values, separated by commas; write e.g. byte_jump:2,0,relative"),
    ("byte_jump:2,0,from_beginning,~from_end;", "byte_jump: from_beginning and from_end; take one away"),
    ("byte_jump:2,0,multiplier ~0;", "byte_jump: multiplier '0' is not a number from 1 to 65535; write one"),
    ("byte_jump:2,0,post_offset ~70000;", "byte_jump: post_offset '70000' is not a number from -65535 to 65535; write one"),
    ("byte_extract:~x,0,n;", "byte_extract: 'x' is not a number from 1 to 23; write one"),
    ("byte_extract:1,0,~7n;", "byte_extract: '7n' is not a name; write letters, digits and _ that begin with a letter"),
    ("byte_extract:1,0,n,align ~3;", "byte_extract: align 3 is neither 2 nor 4; write align 4"),
    ("byte_extract:1,0,n,align ~8;", "byte_extract: align '8' is not a number from 2 to 4; write one"),
    ("byte_extract:2,0,n,~string,hex,little;", "byte_extract: big and little do not go with string; take one away"),
    ("byte_math:~bytes 1, offset 0, oper +, rvalue 1;",
     "byte_math: at least 5 values, separated by commas; write e.g. byte_math:bytes 2, offset 0, oper +, rvalue 4, result name"),
    ("byte_math:~bytes 1, offset 0, oper +, rvalue 1, relative;",
     "byte_math: result is missing; write e.g. byte_math:bytes 2, offset 0, oper +, rvalue 4, result name"),
    ("byte_math:bytes 1, offset 0, oper ~%, rvalue 1, result n;", "byte_math: oper '%' is unknown; write one of + - * / << >>"),
    ("byte_math:bytes 1, offset 0, oper /, rvalue ~0, result n;",
     "byte_math: rvalue 0 changes nothing, or divides by nothing; write 1 or more"),
    ("byte_math:bytes ~m, offset 0, oper +, rvalue 1, result n;",
     "byte_math: 'm' is set nowhere before it; write a number, or byte_extract:...,m; before it"),
    ("byte_math:bytes ~9, offset 0, oper +, rvalue 1, result n;", "byte_math: more than 8 bytes without string; write at most 8"),
    ('pcre:"~ab";', "pcre: 'ab' is not an expression; write \"/EXPRESSION/FLAGS\""),
    ('pcre:"/ab/i~q";', "pcre: 'q' is not a flag; write some of i s m x A E G R B O U I H D M C P Q Y S V W Z"),
    ('pcre:"/ab/U~H";', "pcre: H names a second buffer; write one of the letters U I H D M C P Q Y S V W Z B"),
    ('pcre:"/ab/~,alert:x, flow:y";', "pcre: ',' is not a flag; write some of i s m x A E G R B O U I H D M C P Q Y S V W Z"),
    ('pcre:"/ab/~R";',
     "pcre: R counts from the match before, and there is none in this buffer; write a content before it, or no R"),
    ('content:"a"; pcre:"/ab/~UR";',
     "pcre: R counts from the match before, and there is none in this buffer; write a content before it, or no R"),
    ('http.uri; content:"x"; pcre:"/ab/~P";',
     "pcre: the flag P means http.request_body, but http.uri is set; write pkt_data before it, or take the flag away"),
    ('pcre:"/~Ab/W";', "pcre: http.host is in lower case, this expression is not; write it in lower case"),
    ('content:"a"; fast_pattern:only; pcre:"~/b/R";',
     "pcre: the content before it has fast_pattern:only, which leaves no place to count from; write fast_pattern there"),
    ('pcre:~"/ab/;', 'pcre: the closing quote is missing; write a " before the ;, and \\; for a ; between the quotes'),
    ("pcre:~;", 'pcre: the value is missing; write e.g. pcre:"/id=[0-9]+/i";'),
    ("isdataat:! ~70000,relative;", "isdataat: '70000' is not a place; write a number from 0 to 65535, or a variable's name"),
    ("isdataat:~1 2;", "isdataat: '1 2' does not fit; write isdataat:10, isdataat:!1,relative or the like"),
    ("byte_jump:2,0,~post_offset;", "byte_jump: post_offset takes one value; write it behind a blank"),
    ("byte_jump:2,0,~dce;", "byte_jump: dce: DCE/RPC is not supported yet by this version; write big or little"),
    ("byte_extract:2,0,n,~dce;", "byte_extract: dce: DCE/RPC is not supported yet by this version; write big or little"),
    ("byte_extract:2,~70000,n;", "byte_extract: '70000' is not a number from -65535 to 65535; write one"),
    ("byte_extract:~9,0,n;", "byte_extract: 9 bytes are too many; write at most 8"),
    ("byte_math:bytes 1, offset 0, oper +, rvalue 1, result n, ~dce;",
     "byte_math: dce: DCE/RPC is not supported yet by this version; write endian big or little"),
    ("byte_math:bytes 1, offset 0, oper +, rvalue 1, result n, endian ~dce;",
     "byte_math: dce: DCE/RPC is not supported yet by this version; write endian big or little"),
    ("byte_math:bytes 1, offset ~x, oper +, rvalue 1, result n;",
     "byte_math: offset 'x' is not a number from -65535 to 65535; write one"),
    ("byte_math:bytes 1, offset 0, oper +, rvalue 1, result ~7;",
     "byte_math: '7' is not a name; write letters, digits and _ that begin with a letter"),
    ("byte_math:bytes 1, offset 0, oper +, rvalue 1, result n, string ~bin;",
     "byte_math: string 'bin' is unknown; write one of hex dec oct"),
    ("byte_jump:~x,0;", "byte_jump: 'x' is set nowhere before it; write a number, or byte_extract:...,x; before it"),
    ("byte_jump:1,~1.5;", "byte_jump: '1.5' is not an offset; write a number from -2147483647 to 2147483647, or a variable's name"),
    ("byte_math:bytes 1, offset 0, oper +, rvalue 1, result n, bitmask ~0;", "byte_math: '0' is not a mask; write one like 0x0F"),
    ('pcre:"/(b~/";',
     "pcre: PCRE2 refuses the expression: missing closing parenthesis at offset 2; write one that it takes (\\ before . * ( [ "
     "and the like that are meant)"),
    ('pcre:"/é(b~/i";',
     "pcre: PCRE2 refuses the expression: missing closing parenthesis at offset 4; write one that it takes (\\ before . * ( [ "
     "and the like that are meant)"),
    ("".join(f"byte_extract:1,0,v{number}; " for number in range(64)) + "byte_extract:1,0,~v64;",
     "byte_extract: more than 64 variables in a rule; write fewer, or use a name again"),
]

KEYWORDS = [
    ("flags:~X;", "flags: 'X' are not TCP flags; write e.g. S, SA, A+, *SF, !R or S,12 (F S R P A U C E 1 2, 0 for none)"),
    ("flags:~s;", "flags: 's' are not TCP flags; write e.g. S, SA, A+, *SF, !R or S,12 (F S R P A U C E 1 2, 0 for none)"),
    ("flags:~;", "flags: the value is missing; write e.g. flags:S,12;"),
    ("~flags;", "flags: the value is missing; write e.g. flags:S,12;"),
    ("flags:~+;", "flags: '+': one of + * ! and at least one flag; write e.g. A+"),
    ("flags:~+A+;", "flags: '+A+': one of + * ! and at least one flag; write e.g. A+"),
    ("flags:~S,0;", "flags: 'S,0' are not TCP flags; write e.g. S, SA, A+, *SF, !R or S,12 (F S R P A U C E 1 2, 0 for none)"),
    ('flags:~"S";', "flags: no quotes here; write e.g. flags:S,12;"),
    ("seq:~-1;", "seq: '-1' does not fit; write a number from 0 to 4294967295"),
    ("seq:~4294967296;", "seq: '4294967296' does not fit; write a number from 0 to 4294967295"),
    ("seq:~1-2;", "seq: '1-2' does not fit; write a number from 0 to 4294967295"),
    ("seq:~x;", "seq: 'x' does not fit; write a number from 0 to 4294967295"),
    ("ack:~!1;", "ack: '!1' does not fit; write a number from 0 to 4294967295"),
    ("window:~65536;", "window: '65536' does not fit; write a number from 0 to 65535, or ! and a number"),
    ("window:~<1;", "window: '<1' does not fit; write a number from 0 to 65535, or ! and a number"),
    ("ttl:~256;", "ttl: 256 is over 255; write 0 to 255"),
    ("ttl:~<0;", "ttl: <0 is never true; write another number"),
    ("ttl:~>255;", "ttl: >255 is never true; write another number"),
    ("ttl:~>=0;", "ttl: >=0 is always true; write another number"),
    ("ttl:~<=255;", "ttl: <=255 is always true; write another number"),
    ("ttl:~5<>6;", "ttl: nothing lies between 5 and 6: the ends are not in a range; write 5<>7 or more"),
    ("ttl:~6<>5;", "ttl: nothing lies between 6 and 5: the ends are not in a range; write 6<>8 or more"),
    ("ttl:~<5<>9;", "ttl: < does not go with a range; write 5<>9 or !5<>9"),
    ("ttl:~a;", "ttl: 'a' is not a comparison; write 8, <8, >8, <=8, >=8, !8 or 5<>10"),
    ("ttl:~1 2;", "ttl: '1 2' is not a comparison; write 8, <8, >8, <=8, >=8, !8 or 5<>10"),
    ("tos:~256;", "tos: '256' is not a type of service; write 0 to 255, x00 to xff, or ! and one of these"),
    ("tos:~x123;", "tos: 'x123' is not a type of service; write 0 to 255, x00 to xff, or ! and one of these"),
    ("tos:~<1;", "tos: '<1' is not a type of service; write 0 to 255, x00 to xff, or ! and one of these"),
    ("id:~65536;", "id: '65536' does not fit; write a number from 0 to 65535"),
    ("id:~!1;", "id: '!1' does not fit; write a number from 0 to 65535"),
    ("fragbits:~Z;", "fragbits: 'Z' are not fragment bits; write e.g. M, !D, +M or *MR (M more fragments, D don't, R reserved)"),
    ("fragbits:~m;", "fragbits: 'm' are not fragment bits; write e.g. M, !D, +M or *MR (M more fragments, D don't, R reserved)"),
    ("fragbits:~MZ;", "fragbits: 'MZ' are not fragment bits; write e.g. M, !D, +M or *MR (M more fragments, D don't, R reserved)"),
    ("fragoffset:~x;", "fragoffset: 'x' is not a fragment offset; write e.g. 0, >0, <100 or !0 (units of 8 bytes)"),
    ("fragoffset:~<0;", "fragoffset: <0 is never true; write another number"),
    ("fragoffset:~65536;", "fragoffset: '65536' is not a fragment offset; write e.g. 0, >0, <100 or !0 (units of 8 bytes)"),
    ("ipopts:~lsr;",
     "ipopts: 'lsr' is not an IP option (did you mean lsrr?); write one of rr eol nop ts sec esec lsrr ssrr satid any"),
    ("ipopts:~;", "ipopts: the value is missing; write e.g. ipopts:lsrr;"),
    ("sameip:~1;", "sameip: takes no value; write sameip;"),
    ("itype:~256;", "itype: 256 is over 255; write 0 to 255"),
    ("itype:~8-9;", "itype: nothing lies between 8 and 9: the ends are not in a range; write 8<>10 or more"),
    ("icode:~-1;", "icode: '-1' is not a comparison; write 8, <8, >8, <=8, >=8, !8 or 5<>10"),
    ("icmp_id:~65536;", "icmp_id: '65536' does not fit; write a number from 0 to 65535"),
    ("icmp_seq:~a;", "icmp_seq: 'a' does not fit; write a number from 0 to 65535"),
    ("icmpv6.mtu:~a;", "icmpv6.mtu: 'a' is not a comparison; write 8, <8, >8, <=8, >=8, !8 or 5<>10"),
    ("dsize:~65536;", "dsize: 65536 is over 65535; write 0 to 65535"),
    ("dsize:~1<>2;", "dsize: nothing lies between 1 and 2: the ends are not in a range; write 1<>3 or more"),
    ("dsize:~64kb;", "dsize: 64kb is over 65535; write 0 to 65535"),
    ("ip_proto:~TcP;", "ip_proto: 'TcP' is not a protocol's name (did you mean tcp?); write its number"),
    ("ip_proto:~6 17;", "ip_proto: '6 17' is not a protocol; write a number from 0 to 255 or a name like tcp, GRE, !udp"),
    ("ip_proto:~295;", "ip_proto: 295 is not a protocol's number; write 0 to 255"),
    ("ip_proto:~-1;", "ip_proto: '-1' is not a protocol's name; write its number"),
    ("ip_proto:6; ip_proto:~17;", "ip_proto: these do not go together; write one number, or < > and ! once each"),
    ("ip_proto:6; ip_proto:~!17;", "ip_proto: these do not go together; write one number, or < > and ! once each"),
    ("ip_proto:>9; ip_proto:~<5;", "ip_proto: nothing lies between these two; write the lower number behind >"),
    ("ip_proto:<5; ip_proto:~<9;", "ip_proto: these do not go together; write one number, or < > and ! once each"),
    ("ip_proto:~;", "ip_proto: the value is missing; write e.g. ip_proto:!tcp;"),
    ("ip_proto:~nosuch;", "ip_proto: 'nosuch' is not a protocol's name (did you mean nsh?); write its number"),
    ("threshold:type ~backoff, track by_src, count 1, seconds 1;",
     "threshold: type 'backoff' is not in Suricata 7.0's threshold; write type limit or threshold or both"),
    ("threshold:type limit, track ~by_flow, count 1, seconds 1;",
     "threshold: track 'by_flow' is not in Suricata 7.0's threshold; write track by_src or by_dst or by_both or by_rule"),
    ("threshold:~type limit, track by_src, count 1;",
     "threshold: seconds is missing; write type limit, track by_src, count 1, seconds 60"),
    ("threshold:type limit, track by_src, count 1, ~multiplier 2;",
     "threshold: 'multiplier' is not part of it in Suricata 7.0; write type limit, track by_src, count 1, seconds 60"),
    ("threshold:type limit, track by_src, count 1, seconds 1, ~count 1;", "threshold: count stands twice; write it once"),
    ("threshold:type ~LIMIT, track by_src, count 1, seconds 1;",
     "threshold: type 'LIMIT' is not in Suricata 7.0's threshold; write type limit or threshold or both"),
    ("threshold:type limit, track by_src, count ~0, seconds 1;",
     "threshold: count '0' is not a number from 1 to 4294967295; write one"),
    ("threshold:type limit, track by_src, ~count 1 seconds 1;",
     "threshold: 'count 1 seconds 1' is not part of it in Suricata 7.0; write type limit, track by_src, count 1, seconds 60"),
    ("detection_filter:track ~by_flow, count 1, seconds 1;",
     "detection_filter: track 'by_flow' is not in Suricata 7.0's detection_filter; write track by_src or by_dst"),
    ("detection_filter:track ~by_rule, count 1, seconds 1;",
     "detection_filter: track 'by_rule' is not in Suricata 7.0's detection_filter; write track by_src or by_dst"),
    ("detection_filter:track by_src, count 1, seconds ~0;",
     "detection_filter: seconds '0' is not a number from 1 to 4294967295; write one"),
    ("detection_filter:track by_src, count 1, seconds 1, ~unique_on dst_port;",
     "detection_filter: 'unique_on dst_port' is not part of it in Suricata 7.0; write track by_src, count 10, seconds 60"),
    ("detection_filter:track by_src, count 1, seconds 1; threshold:~type limit, track by_src, count 1, seconds 1;",
     "threshold: only one threshold or detection_filter in a rule; take one away"),
    ("threshold:type limit, track by_src, count 1, seconds 1; ~threshold:type limit, track by_src, count 1, seconds 1;",
     "threshold: stands twice in this rule; write it once"),
    ("inspect:~two words;", "inspect: 'two words' is not an inspector's name; write letters, digits, - and _, as dns-tunnel"),
    ("inspect:mine, ~stream;", "inspect: 'stream' is not part of it; write inspect:mine or inspect:mine, flow"),
    ("block:~everything;", "block: 'everything' is not a scope; write connection or source or destination or pair or none"),
    ("block:source, ~10w;", "block: '10w' is not a time; write one like 30s, 10m, 2h or 7d, up to 3650d"),
    ("block:source, ~0s;", "block: '0s' is not a time; write one like 30s, 10m, 2h or 7d, up to 3650d"),
    ("block:none, ~5m;", "block: none blocks nothing, so no time goes with it; write block:none"),
    ("block:source,~;", "block: '' is not a time; write one like 30s, 10m, 2h or 7d, up to 3650d"),
    ("msg:~plain;", 'msg: the value must stand in quotes; write e.g. msg:"SSH from outside";'),
    ('msg:~"open;', 'msg: the closing quote is missing; write a " before the ;, and \\; for a ; between the quotes'),
    ('msg:~"";', 'msg: nothing stands between the quotes; write e.g. msg:"SSH from outside";'),
    ('msg:~"a;b";', 'msg: the closing quote is missing; write a " before the ;, and \\; for a ; between the quotes'),
    ('msg:"a"; ~msg:"b";', "msg: stands twice in this rule; write it once"),
    ("rev:~0;", "rev: '0' is not a revision; write 1 to 4294967294"),
    ("rev:~x;", "rev: 'x' is not a revision; write 1 to 4294967294"),
    ("rev:1; ~rev:2;", "rev: stands twice in this rule; write it once"),
    ("gid:~-1;", "gid: '-1' is not a group id; write 0 to 4294967294"),
    ("classtype:~9x;", "classtype: '9x' is not a class type; write a name like attempted-recon"),
    ("classtype:~two words;", "classtype: 'two words' is not a class type; write a name like attempted-recon"),
    ("priority:~0;", "priority: '0' is not a priority; write 1 to 255"),
    ("priority:~256;", "priority: '256' is not a priority; write 1 to 255"),
    ("priority:~-1;", "priority: '-1' is not a priority; write 1 to 255"),
    ("reference:~url;", "reference: 'url' is not a reference; write one like url,example.org/advisory or cve,2024-1234"),
    ("reference:~;", "reference: the value is missing; write e.g. reference:cve,2024-1234;"),
    ("target:~both;", "target: 'both' is not an end; write src_ip or dest_ip"),
    ("noalert:~yes;", "noalert: takes no value; write noalert;"),
    ("~tag:host;", "tag: not supported yet by this version; leave the rule out, or load the others with --lenient"),
    ("~lua:x; tag:host;", "lua: not supported yet by this version; leave the rule out, or load the others with --lenient"),
    ('~smb.share; content:"a";',
     "smb.share: not supported yet by this version; leave the rule out, or load the others with --lenient"),
    ("~dsiz:1;", "'dsiz' is not a keyword (did you mean dsize?); `tigerfox rules keywords` lists them"),
    ("detection_filter:track by_src, count ~x, seconds 1;",
     "detection_filter: count 'x' is not a number from 1 to 4294967295; write one"),
    ("detection_filter:~count 1, seconds 1;", "detection_filter: track is missing; write track by_src, count 10, seconds 60"),
    ("inspect:~;", "inspect: the value is missing; write e.g. inspect:dns-tunnel;"),
    ("inspect:~7;", "inspect: '7' is not an inspector's name; write letters, digits, - and _, as dns-tunnel"),
    ("block:none , ~5m;", "block: none blocks nothing, so no time goes with it; write block:none"),
    ("block:~sourc;",
     "block: 'sourc' is not a scope (did you mean source?); write connection or source or destination or pair or none"),
    ("ip_proto:	 ~;", "ip_proto: the value is missing; write e.g. ip_proto:!tcp;"),
    ("ttl:~²;", "ttl: '²' is not a comparison; write 8, <8, >8, <=8, >=8, !8 or 5<>10"),
    ("ttl:~9999999999999999999999;", "ttl: 9999999999999999999999 is over 255; write 0 to 255"),
    ("dsize:~1xb;", "dsize: '1xb' is not a number; write digits"),
    ("~block;", "block: the value is missing; write e.g. block:source, 10m;"),
    ("dsize:~>8<>9;", "dsize: > does not go with a range; write 8<>9 or !8<>9"),
    ("flags:~!+A;", "flags: '!+A': one of + * ! and at least one flag; write e.g. A+"),
    ("detection_filter:track by_src, count 1, ~seconds;",
     "detection_filter: 'seconds' is not part of it in Suricata 7.0; write track by_src, count 10, seconds 60"),
]

RULES = [
    ("~allow tcp any any -> any any (sid:1;)",
     "'allow' is not an action; write one of pass drop reject rejectdst rejectboth alert rejectsrc"),
    ("~alret tcp any any -> any any (sid:1;)",
     "'alret' is not an action (did you mean alert?); write one of pass drop reject rejectdst rejectboth alert rejectsrc"),
    ("~config tcp any any -> any any (sid:1;)",
     "config: not supported yet by this version; leave the rule out, or load the others with --lenient"),
    ("alert ~smtp any any -> any any (sid:1;)",
     "smtp: this protocol is not supported yet by this version; write tcp, udp or ip, or leave the rule out, or load the others "
     "with --lenient"),
    ("alert ~tpc any any -> any any (sid:1;)",
     "'tpc' is not a protocol (did you mean tcp?); write ip with ip_proto:NUMBER, or one of ip ip4 ipv4 ip6 ipv6 tcp tcp-pkt udp "
     "icmp icmp4 icmpv4 icmp6 icmpv6 sctp tcp-stream http http1 tls ssh dns"),
    ("alert ~6 any any -> any any (sid:1;)",
     "'6' is not a protocol; write ip with ip_proto:NUMBER, or one of ip ip4 ipv4 ip6 ipv6 tcp tcp-pkt udp icmp icmp4 icmpv4 "
     "icmp6 icmpv6 sctp tcp-stream http http1 tls ssh dns"),
    ("alert tcp any any ~<- any any (sid:1;)", "<- is not a direction; write the two sides the other way round and ->"),
    ("alert tcp any any ~=> any any (sid:1;)", "'=>' is not a direction of Suricata 7.0; write -> or <>"),
    ("alert tcp any any -> any ~(sid:1;)",
     "the destination port is missing; write action protocol source port -> destination port (options)"),
    ("alert~", "the protocol is missing; write action protocol source port -> destination port (options)"),
    ("alert tcp any any -> any any~", "the options must begin here; write ( before them"),
    ("alert tcp any any -> any any ~any (sid:1;)", "the options must begin here; write ( before them"),
    ("alert tcp ~[any any -> any any (sid:1;)", "this [ is never closed; write ] at the end of the list"),
    ("alert tcp any any -> any any (sid:1~;", "the options are never closed; write ) at the end of the rule"),
    ("alert tcp any any -> any any (~sid:1)", "no ; ends this option; write ; behind it"),
    ("alert tcp any any -> any any (sid:1;~;)", "an empty option; take this ; away"),
    ("alert tcp any any -> any any (rev:1;~)", "sid is missing; write sid:NUMBER; in the options"),
    ("alert tcp any any -> any any (~)", "sid is missing; write sid:NUMBER; in the options"),
    ("alert tcp any any -> any ~65536 (sid:1;)", "'65536': a port is 0 to 65535; write one in that range"),
    ("alert tcp any any -> [10.0.0.1, ~10.0.0.999] any (sid:1;)",
     "'10.0.0.999' is not an address; write one like 192.0.2.1, 192.0.2.0/24, 2001:db8::/32, 192.0.2.1-192.0.2.9, $NAME or any"),
    ("alert tcp ~$HOMENET any -> any any (sid:1;)",
     "$HOMENET is not defined (did you mean HOME_NET?); define it with --var HOMENET=VALUE"),
    ("alert tcp any any -> any any (ttl:  ~999; sid:1;)", "ttl: 999 is over 255; write 0 to 255"),
    ("alert tcp any any -> any any (sid:1; threshold:type limit, track ~by_flow, count 1, seconds 1;)",
     "threshold: track 'by_flow' is not in Suricata 7.0's threshold; write track by_src or by_dst or by_both or by_rule"),
    ("alert tcp any any -> any any (sid:~0;)", "sid: '0' is not a signature id; write 1 to 4294967294"),
    ("alert tcp any any -> any any (sid:1; ~sid:2;)", "sid: stands twice in this rule; write it once"),
    ("alert ip !~any any -> any any (sid:1;)", "this negates every address, so nothing is left; write which to match"),
    ("alert ip !~0.0.0.0/0 any -> any any (sid:1;)", "this negates every address, so nothing is left; write which to match"),
    ("alert ip ~[10.0.0.0/8,!10.0.0.0/8] any -> any any (sid:1;)",
     "the negated parts leave no address; take one of the conflicting parts away"),
    ("alert ip ~[10.1.0.0/16,!10.0.0.0/8] any -> any any (sid:1;)",
     "the negated parts leave no address; take one of the conflicting parts away"),
    ("alert ip ~[$HOME_NET,$EXTERNAL_NET] any -> any any (sid:1;)",
     "the negated parts leave no address; take one of the conflicting parts away"),
    ("alert ip ~192.0.2.1/33 any -> any any (sid:1;)", "'192.0.2.1/33': the prefix length is 0 to 32; write one like /24"),
    ("alert ip ~::1/129 any -> any any (sid:1;)", "'::1/129': the prefix length is 0 to 128; write one like /96"),
    ("alert ip ~192.0.2.256 any -> any any (sid:1;)",
     "'192.0.2.256' is not an address; write one like 192.0.2.1, 192.0.2.0/24, 2001:db8::/32, 192.0.2.1-192.0.2.9, $NAME or any"),
    ("alert ip ~192.0.2 any -> any any (sid:1;)",
     "'192.0.2' is not an address; write one like 192.0.2.1, 192.0.2.0/24, 2001:db8::/32, 192.0.2.1-192.0.2.9, $NAME or any"),
    ("alert ip ~192.0.2.1/255.0.255.0 any -> any any (sid:1;)",
     "'192.0.2.1/255.0.255.0': the netmask has gaps; write a prefix length"),
    ("alert ip ~192.0.2.9-192.0.2.1 any -> any any (sid:1;)",
     "'192.0.2.9-192.0.2.1': the range is the wrong way round; write the lower address first"),
    ("alert ip ~192.0.2.1-::1 any -> any any (sid:1;)", "'192.0.2.1-::1': a range has both ends in one family; write two ranges"),
    ("alert ip ~[192.0.2.1 any -> any any (sid:1;)", "this [ is never closed; write ] at the end of the list"),
    ("alert ip 192.0.2.1~] any -> any any (sid:1;)", "this ] has no [ before it; take it away"),
    ("alert ip [192.0.2.1,~,192.0.2.2] any -> any any (sid:1;)",
     "nothing stands before this comma; take it away or write what is missing"),
    ("alert ip ~[] any -> any any (sid:1;)", "an empty list; write any, or each address that is meant"),
    ("alert ip ~! any -> any any (sid:1;)", "nothing stands after the !; write what it negates"),
    ("alert ip !~!192.0.2.1 any -> any any (sid:1;)", "this ! is in the wrong place; write one ! before what it negates"),
    ("alert ip [~192.0.2.1 192.0.2.2] any -> any any (sid:1;)",
     "'192.0.2.1 192.0.2.2' is not an address; write one like 192.0.2.1, 192.0.2.0/24, 2001:db8::/32, 192.0.2.1-192.0.2.9, $NAME "
     "or any"),
    ("alert ip [192.0.2.1]~[192.0.2.2] any -> any any (sid:1;)", "a comma is missing before this; write [a,b]"),
    ("alert ip ~example.org any -> any any (sid:1;)",
     "'example.org' is not an address; write one like 192.0.2.1, 192.0.2.0/24, 2001:db8::/32, 192.0.2.1-192.0.2.9, $NAME or any"),
    ("alert ip ~192.0.2.1/ any -> any any (sid:1;)", "'192.0.2.1/': the prefix length is 0 to 32; write one like /24"),
    ("alert ip ~$NOSUCH any -> any any (sid:1;)", "$NOSUCH is not defined; define it with --var NOSUCH=VALUE"),
    ("alert ip [10.0.0.1,~$NOSUCH] any -> any any (sid:1;)", "$NOSUCH is not defined; define it with --var NOSUCH=VALUE"),
    ("alert ip " + "[" * 65 + "~" + "[" * 5 + "10.0.0.1" + "]" * 70 + " any -> any any (sid:1;)",
     "lists nested deeper than 64; write them flat"),
    ("alert ip ~192.0.2.1/² any -> any any (sid:1;)", "'192.0.2.1/²': the prefix length is 0 to 32; write one like /24"),
    ("alert tcp any ~65536 -> any any (sid:1;)", "'65536': a port is 0 to 65535; write one in that range"),
    ("alert tcp any ~80:65536 -> any any (sid:1;)", "'80:65536': a port is 0 to 65535; write one in that range"),
    ("alert tcp any !~any -> any any (sid:1;)", "this negates every port, so nothing is left; write which to match"),
    ("alert tcp any ~[80,!80] -> any any (sid:1;)", "the negated parts leave no port; take one of the conflicting parts away"),
    ("alert tcp any ~90:80 -> any any (sid:1;)", "'90:80': the range is the wrong way round; write the lower port first"),
    ("alert tcp any ~80:!90 -> any any (sid:1;)", "'80:!90': no ! inside a range; write !1:1024 for what is outside it"),
    ("alert tcp any ~http -> any any (sid:1;)", "'http' is not a port; write one like 80, 1:1024, 1024:, $NAME or any"),
    ("alert tcp any ~-1 -> any any (sid:1;)", "'-1' is not a port; write one like 80, 1:1024, 1024:, $NAME or any"),
    ("alert tcp any ~[80 -> any any (sid:1;)", "this [ is never closed; write ] at the end of the list"),
    ("alert tcp any ~$HOME_NET -> any any (sid:1;)",
     "in $HOME_NET: '192.168.0.0/16' is not a port; write one like 80, 1:1024, 1024:, $NAME or any"),
    ("alert tcp any ~$NOSUCH -> any any (sid:1;)", "$NOSUCH is not defined; define it with --var NOSUCH=VALUE"),
    ("alert tcp any ~1:2:3 -> any any (sid:1;)", "'1:2:3' is not a port; write one like 80, 1:1024, 1024:, $NAME or any"),
    ("alert tcp any ~99999999999999 -> any any (sid:1;)", "'99999999999999': a port is 0 to 65535; write one in that range"),
    ('alert dns any any -> any any (~http.uri; content:"a"; sid:1;)',
     "http.uri: a keyword of http does not go with dns, which the rule's head or another keyword says; write one of the two"),
    ('alert tls any any -> any any (~http.uri; content:"a"; sid:1;)',
     "http.uri: a keyword of http does not go with tls, which the rule's head or another keyword says; write one of the two"),
    ('alert http any any -> any any (~dns.query; content:"a"; sid:1;)',
     "dns.query: a keyword of dns does not go with http, which the rule's head or another keyword says; write one of the two"),
    ('alert dns any any -> any any (~file.data; content:"a"; sid:1;)',
     "file.data: a rule of dns has no files; write http, tcp or ip as the protocol"),
    ('alert http any any -> any any (~ja3.hash; content:"a"; sid:1;)',
     "ja3.hash: a rule of http has no JA3; write tls, tcp or ip as the protocol"),
    ('alert dns any any -> any any (~tls.sni; content:"a"; sid:1;)',
     "tls.sni: a keyword of tls does not go with dns, which the rule's head or another keyword says; write one of the two"),
    ("alert ip [10.0.0.0/8,!~[]] any -> any any (sid:1;)", "an empty list; write any, or each address that is meant"),
    ("alert tcp any ~[] -> any any (sid:1;)", "an empty list; write any, or each port that is meant"),
    ("alert tcp any ~[[],[]] -> any any (sid:1;)", "an empty list; write any, or each port that is meant"),
    ("alert ip [10.0.0.0/8,~!] any -> any any (sid:1;)", "nothing stands after the !; write what it negates"),
    ("alert ip any any -> ~[10.0.0.1,[10.0.0.2] any (sid:1;)", "this [ is never closed; write ] at the end of the list"),
    ("alert ip [!10.0.0.1,!~,10.0.0.2] any -> any any (sid:1;)",
     "nothing stands before this comma; take it away or write what is missing"),
    ("alert ip [10.0.0.1,~10.0.0.2!] any -> any any (sid:1;)",
     "'10.0.0.2!' is not an address; write one like 192.0.2.1, 192.0.2.0/24, 2001:db8::/32, 192.0.2.1-192.0.2.9, $NAME or any"),
    ("drop udp any any -> any any (ip_proto:~6; sid:1;)",
     "ip_proto: the rule's protocol is udp already; write ip, ipv4 or ipv6 there"),
    ("alert ip any any -> any any (~block:source; sid:1;)",
     "block: alert drops nothing that could be blocked; write drop or reject as the action"),
    ("pass ip any any -> any any (~block:source; sid:1;)",
     "block: pass drops nothing that could be blocked; write drop or reject as the action"),
    ("drop ip any any -> any any (~inspect:mine; sid:1;)",
     "inspect: the action drop decides already, so nobody is asked; write alert as the action"),
    ("alert http any any -> any any (app-layer-protocol:~!http; sid:1;)",
     "app-layer-protocol: the rule is one of http already; take this away"),
    ('alert dns any any -> any any (~file.data; content:"a"; sid:1;)',
     "file.data: a rule of dns has no files; write http, tcp or ip as the protocol"),
    ('alert http any any -> any any (~ja3.hash; content:"a"; sid:1;)',
     "ja3.hash: a rule of http has no JA3; write tls, tcp or ip as the protocol"),
    ('alert dns any any -> any any (~http.uri; content:"a"; sid:1;)',
     "http.uri: a keyword of http does not go with dns, which the rule's head or another keyword says; write one of the two"),
    ('alert tcp-stream any any -> any any (content:"a"; ~dsize:5; sid:1;)',
     "dsize: tests of packets do not go with tcp-stream or flow:only_stream; take one of the two away"),
    ('alert tcp-stream any any -> any any (http.uri; content:"a"; ~dsize:5; sid:1;)',
     "dsize: tests of packets do not go with tcp-stream or flow:only_stream; take one of the two away"),
    ('alert http any any -> any any (tls.fingerprint:"~a"; sid:1;)',
     "tls.fingerprint: a keyword of tls does not go with http, which the rule's head or another keyword says; write one of the "
     "two"),
    ('alert tcp-stream any any -> any any (tcp.hdr; ~content:"a"; sid:1;)',
     "content: tests of packets do not go with tcp-stream or flow:only_stream; take one of the two away"),
    ("alert tcp any any -> any any (sid:1;) ~# why",
     "this stands behind the closing ); take it away, or make it a line of its own with # before it"),
    ('alert tcp any any -> any any (msg:"a (b)"; sid:1~;', "the options are never closed; write ) at the end of the rule"),
    ("alert rule any any -> any any~", "the options must begin here; write ( before them"),
    ("x~", "the protocol is missing; write action protocol source port -> destination port (options)"),
    ('alert tcp any any -> any any (msg:"m"; sid:~4294967295;)', "sid: '4294967295' is not a signature id; write 1 to 4294967294"),
    ('alert tcp any any -> any any (msg:"é"; ttl:~300; sid:1;)', "ttl: 300 is over 255; write 0 to 255"),
    ("x" * 65535 + "~x", "65536 characters are too many; write at most 65535"),
    ("alert tcp any any -> any any (sid:1; \\\n  rev:~x;)", "rev: 'x' is not a revision; write 1 to 4294967294"),
    ("alert ip any any -> any any (sid:1;)\nalert tcp any any -> any any (~sid:1;)",
     "duplicate signature 1: it stands at made.rules:2:1 too; give it another sid or a higher rev"),
    ("alert ip ~$LOOP any -> any any (sid:1;)",
     "variables in a loop: $LOOP -> $POOL -> $LOOP; give one of them a value of its own"),
    ("alert ip any any -> [10.0.0.1,!~$LOOP] any (sid:1;)",
     "variables in a loop: $LOOP -> $POOL -> $LOOP; give one of them a value of its own"),
    ("alert ip ~$OPEN any -> any any (sid:1;)", "in $OPEN: this [ is never closed; write ] at the end of the list"),
    ("alert tcp any ~$WORD -> any any (sid:1;)", "in $WORD: 'ssh' is not a port; write one like 80, 1:1024, 1024:, $NAME or any"),
    ("alert ip any any -> any any (inspect:~yours; sid:1;)",
     "inspect: no inspector 'yours' runs; start with --inspector yours=package.module:function, or name one that runs; there are "
     "mine"),
]

# What does not stand in a rule: files, and what is told. $BAD is the address list list.txt.

USES_LIST = "drop ip $BAD any -> any any (sid:1;)"
FILES = [
    ({"made.rules": USES_LIST, "list.txt": "10.0.0.1 # one\n  example.org, two\n"},
     "list.txt:2:3: in $BAD: 'example.org' is not an address; write one like 192.0.2.1, 192.0.2.0/24, 2001:db8::/32, "
     "192.0.2.1-192.0.2.9, $NAME or any; or make the line a comment with #"),
    ({"made.rules": USES_LIST}, "made.rules:1:9: in $BAD: the address list list.txt cannot be read (No such file or directory); "
                                "check the name behind @"),
    ({"made.rules": "drop ip any any -> any any (sid:1;)"},
     "$BAD:1:1: the address list list.txt cannot be read (No such file or directory); check the name behind @"),
    ({}, "made.rules:1:1: cannot be read (No such file or directory); check the name and the permissions"),
    ({"made.rules/README": "none"}, "made.rules:1:1: no *.rules in this folder; name the rule files themselves"),
]
AT_THEIR_BOUNDS = [
    "http.uri; " + "to_lowercase; " * 7 + 'content:"a";', "".join(f"flowbits:isset,name{number}; " for number in range(255)),
    "stream_size:server,>,9; " * 255, "".join(f"byte_extract:1,0,v{number}; " for number in range(64)), "ttl:!7; " * 8100,
    'dns.query; content:"a"; ' * 2700, 'content:"' + "é" * 32767 + '";',
]
REFUSALS = {"Refusal", "RuleError", "ValueError", "_refuse", "_unreadable"}


def rule_of(head, rows):
    return [(f"{head} any any -> any any ({options} sid:1;)", says) for options, says in rows]


ROWS = [*RULES, *rule_of("alert tcp", [*CONTENT, *BUFFERS, *FLOWS, *NUMBERS]), *rule_of("drop ip", KEYWORDS)]


def told(folder, files, values):
    """The lines of the refusal of made.rules beside these files in a folder; it is the working directory."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    with pytest.raises(RuleError) as caught:
        load_rules(["made.rules"], Variables(values, inspectors=("mine",)))
    return str(caught.value).splitlines()


def told_of_row(folder, marked):
    """What is told of a row's rule, which stands in the second line of its file."""
    return told(folder, {"made.rules": "# made\n" + marked.replace("~", "", 1)}, VALUES)


@pytest.mark.parametrize(("marked", "says"), ROWS, ids=[marked[-60:] for marked, _ in ROWS])
def test_mistake_is_told_with_its_place_and_what_to_write(tmp_path, monkeypatch, marked, says):
    monkeypatch.chdir(tmp_path)
    before = marked[:marked.index("~")]
    place = f"made.rules:{before.count(chr(10)) + 2}:{len(before) - before.rfind(chr(10))}"
    assert told_of_row(tmp_path, marked)[0] == f"{place}: {says}"
    assert "; " in says


@pytest.mark.parametrize("options", AT_THEIR_BOUNDS, ids=[options[:30] for options in AT_THEIR_BOUNDS])
def test_rule_that_just_keeps_a_bound_compiles(options):
    found = read_rule_text(f"alert ip any any -> any any ({options} sid:1;)")
    assert CompiledRules.from_buffer(compile_rules(found.rules).image)


@pytest.mark.parametrize(("files", "line"), FILES, ids=[line[:40] for _, line in FILES])
def test_file_that_cannot_be_read_is_told(tmp_path, monkeypatch, files, line):
    monkeypatch.chdir(tmp_path)
    assert told(tmp_path, files, {"BAD": "@list.txt"}) == [line]


def test_every_keyword_that_takes_a_value_has_a_row():
    refused = {says.partition(": ")[0] for _, says in ROWS}
    assert {row.name for row in TABLE if row.value} - refused == {"metadata"}      # takes any text


def refusals(path):
    """Lines (first, last) of the statements of a file that refuse something."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise | ast.Expr):
            names = {call.func.id for call in ast.walk(node) if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}
            if names & REFUSALS:
                yield node.lineno, node.end_lineno


def test_no_refusal_of_the_source_is_without_a_row(tmp_path, monkeypatch):
    """Runs every row and notes each line of the rule language that is reached."""
    folder = Path(ruleset.__file__).parent
    reached, before = set(), sys.gettrace()

    def trace(frame, event, argument):
        if not frame.f_code.co_filename.startswith(str(folder)):
            return None
        reached.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    monkeypatch.chdir(tmp_path)
    sys.settrace(trace)
    try:
        for marked, _ in ROWS:
            told_of_row(tmp_path, marked)
        for number, (files, _) in enumerate(FILES):
            inside = tmp_path / str(number)
            inside.mkdir()
            monkeypatch.chdir(inside)
            told(inside, files, {"BAD": "@list.txt"})
    finally:
        sys.settrace(before)
    sites = [(path, lines) for path in sorted(folder.glob("*.py")) for lines in refusals(path)]
    missed = [f"{path.name}:{first}" for path, (first, last) in sites
              if not any((str(path), line) in reached for line in range(first, last + 1))]
    assert len(sites) > 150
    assert not missed
