-- Run at every connect, as one message, {statement}, {lock} and {idle} being milliseconds.
SET statement_timeout = {statement};
SET lock_timeout = {lock};
SET idle_in_transaction_session_timeout = {idle};
SELECT current_setting('transaction_read_only'), pg_postmaster_start_time()::text;
