SELECT current_setting('transaction_read_only'), pg_postmaster_start_time()::text
