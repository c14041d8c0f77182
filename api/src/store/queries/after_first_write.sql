-- after_first_write: a commit that waits for the standby, and so for all of the log before it. A write
-- that finds its row there is a pure read, which waits for nothing; but a server that was restarted may
-- hold rows that its standby does not have, and shows them. Nothing is stored: the message is log only.
SELECT pg_logical_emit_message(true, 'api', '')
