//! Exit codes, with cause and remedy; `docs/reference/exit-codes.md` is generated from them.

use causeway_runtime::declare_exit_codes;

declare_exit_codes! {
    /// The agent and the guard use the same codes; both end with 0 after SIGTERM. Declared in
    /// `failover-ctl/src/exit_code.rs`.
    ///
    /// A record that Route 53 does not move does not fail a promotion: the later steps are executed, the exit
    /// code is 0, the report and `outcome.records_not_moved` in its JSON name the record, and
    /// [the primary's agent moves it](../decisions/0036-dns-failure-keeps-promotion.md).
    pub(crate) enum FailoverExitCode {
        Other = 1,
            "An error without its own code",
            "Read the causes; the last one is the reason";
        Settings = 3,
            "The settings are invalid; nothing was changed",
            "The message names the setting, the cause and the remedy";
        LeaseStore = 10,
            "The lease bucket is unusable: no response, no permission, conditional writes not enforced, or a newer \
             lease format",
            "Nothing was changed. Retry when the bucket responds; upgrade this host if the lease's format is newer";
        LeaseMismatch = 11,
            "The lease belongs to another cluster or another database",
            "Check `cluster`, `[lease] bucket` and `[postgres] data-directory`";
        LeaseExists = 12,
            "`init`: the cluster has a lease already, or a node has seen one in another bucket",
            "`failover-ctl status` shows it; `init` is for a new cluster, `replace-lease` for one that has had a \
             lease";
        NoLease = 13,
            "The cluster has no lease",
            "Run `failover-ctl init` on the node that has the database";
        UnknownTarget = 14,
            "Unknown node or region",
            "`failover-ctl status` lists the nodes";
        AlreadyPrimary = 15,
            "The target already holds the lease",
            "Check `failover-ctl status`. If an unfinished operation took it: `failover-ctl resume`, or `abandon`";
        NotPromotable = 16,
            "The target cannot be promoted: its agent does not answer or rejects the command, it is no consistent \
             standby, it is on another timeline, another node has more WAL, or the lease has changed. An operation \
             that had begun is closed",
            "Choose another node, or wait; accept a timeline by its number with `--accept-timeline`";
        PrimaryHealthy = 17,
            "A primary answers, so no promotion is needed; also if it came back before the answer to the plan, or \
             before `resume`",
            "Stop its host first to move away from it";
        DataLoss = 18,
            "The possible data loss exceeds the accepted one, or the one stated when the operator answered `yes`. \
             Nothing was changed, and the operation is closed",
            "Wait for the standby to receive more, or accept the loss: `--accept-loss BYTES`";
        NotFenced = 19,
            "The old primary is not fenced: its lease did not expire, its instance could not be stopped, or \
             `--stop-instance` needs `[ec2]` or the node's `instance-id`. The operation is closed",
            "Set them, wait until the lease expires, or accept the risk of split-brain: `--unfenced`";
        Busy = 20,
            "Another operator is at work",
            "Ask them. Once their heartbeat has been missing for 10 s, the same command continues";
        NotConfirmed = 21,
            "The plan was not confirmed: the answer was not `yes`, there is no terminal, or `--yes` was passed to \
             `resume` without a flag that the plan needs, which the message names",
            "Answer `yes`, or pass `--yes` and the flag";
        Unfinished = 22,
            "A step did not complete after the lease was taken, or the journal could not be written; the message \
             names the step",
            "Remove the cause, then run `failover-ctl resume`: completed steps are not repeated. Or promote another \
             node, without clean-up";
        NoOperation = 23,
            "No operation to resume or abandon",
            "`failover-ctl history` lists past operations";
        Overtaken = 24,
            "`resume`: the lease has changed, so that no step of the plan applies. The operation is closed",
            "Check `failover-ctl status`";
        NotRejoined = 30,
            "`rejoin`: the node does not stream: its agent does not answer or rejects the command, no primary holds \
             the lease, the same failure persisted for 30 s, or the timeout passed",
            "The message names the cause; `failover-ctl status` shows the node's problems, and the agent retries \
             where it can";
        LeaseNotReplaced = 40,
            "`replace-lease`: the lease was not replaced; each reason is a line",
            "Remove each reason, or accept it with its flag: [Replace the lease](../guides/replace-the-lease.md)";
        ChecksFailed = 50,
            "`check`: some checks failed",
            "Each is listed with its remedy";
    }
}
