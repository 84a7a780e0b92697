//! Whom a new process runs as and what it may do: resource limits, the mask for new files, groups, user, and whether a
//! program may give it more rights. `spawn` applies this in the child.

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit, umask};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::Stage;

/// What changes for a process between its start and its program. The default changes nothing and costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// Resource limits, see setrlimit(2).
    pub limits: Vec<(Resource, Rlimit)>,
    /// The permissions that new files do not get, see umask(2).
    pub umask: Option<Mode>,
    /// The supplementary groups; none leaves those of the caller.
    pub groups: Option<Vec<Gid>>,
    /// The group.
    pub group: Option<Gid>,
    /// The user.
    pub user: Option<Uid>,
    /// No program that is executed from now on can give more rights; see prctl(2), `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
}

/// What a step failed of.
pub(super) type Failed = (Stage, Errno);

/// The two steps run in the child, which has one thread and may not allocate: each is the system call itself, without
/// what C libraries do to have all threads of a process take part.
impl Privileges {
    /// Whether the process does not stay who its parent is.
    pub(super) fn is_another_user(&self) -> bool {
        self.user.is_some() || self.group.is_some()
    }

    /// What the descriptors depend on, and what a new user could not do any more.
    pub(super) fn limit(&self) -> Result<(), Failed> {
        for (resource, limit) in &self.limits {
            setrlimit(*resource, *limit).map_err(|errno| (Stage::Limits, errno))?;
        }
        if let Some(mask) = self.umask {
            umask(mask);
        }
        Ok(())
    }

    /// Gives up the rights of the caller: the groups first, because only its user may change them. All three numbers of
    /// each, so that there is no way back.
    pub(super) fn change_user(&self) -> Result<(), Failed> {
        if let Some(groups) = &self.groups {
            set_thread_groups(groups).map_err(|errno| (Stage::Groups, errno))?;
        }
        if let Some(group) = self.group {
            set_thread_res_gid(group, group, group).map_err(|errno| (Stage::Group, errno))?;
        }
        if let Some(user) = self.user {
            set_thread_res_uid(user, user, user).map_err(|errno| (Stage::User, errno))?;
        }
        if self.no_new_privileges {
            set_no_new_privs(true).map_err(|errno| (Stage::NoNewPrivileges, errno))?;
        }
        Ok(())
    }
}
