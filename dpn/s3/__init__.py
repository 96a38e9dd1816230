"""One client for every server that speaks S3: AWS (Glacier classes included), versitygw, MinIO, Ceph.

Whatever a server answers, a call ends, in bounded time and memory, with an answer or with an error of ours that
says who must act: wait (StoreUnavailable), correct the settings (Misconfigured), send or read again
(StoreMismatch), look for the object (StoreMissing, StoreCold, PreconditionFailed). A server that is overloaded or
away is asked again a few times, after the time that it names; a longer outage is for the caller to wait out.

| module | holds |
| --- | --- |
| `connection` | `Connection`, to one bucket or to what lies under a prefix: `call` a request, read a `body` |
| `pages` | what a server lists, page by page, never in memory: objects, uploads, parts |
| `body` | a part of something as the body of a request |
| `ranges` | a range of an object that was looked at, and of no other |
| `plan` | how a file is cut into parts |
| `checksums` | what a server says of an object's content, and what its bytes give |
| `digests` | digests as S3 spells them |
| `limits` | how often a call is tried (`Retries`), and what an answer may cost (`AnswerLimits`) |
| `refusals` | what each refusal means, in the words of the user's settings (`Refusals`) |
| `errors` | those that only S3 has |
| `settings` | what every table of an S3 server has |

It knows of objects and uploads, and nothing of what is stored in them. Import `connection` where a client is made:
it loads botocore, which costs a process 0.2 s and 25 MB. `limits`, `errors` and
`settings` do not.
"""
