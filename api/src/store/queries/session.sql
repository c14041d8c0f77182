-- Run at every connect, as one message, {statement}, {lock} and {idle} being milliseconds.
SET statement_timeout = {statement};
SET lock_timeout = {lock};
SET idle_in_transaction_session_timeout = {idle};
{role}
