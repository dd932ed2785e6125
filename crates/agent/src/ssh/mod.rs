//! The SSH server of the workspace: sessions, forwards, sftp.
