
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'coderctl' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'coderctl'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'coderctl' {
            [CompletionResult]::new('--url', '--url', [CompletionResultType]::ParameterName, 'URL of the Coder deployment')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'Session token; the variable keeps it out of the process list')
            [CompletionResult]::new('--global-config', '--global-config', [CompletionResultType]::ParameterName, 'Directory of the login, shared with the `coder` client')
            [CompletionResult]::new('--header-command', '--header-command', [CompletionResultType]::ParameterName, 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`')
            [CompletionResult]::new('--client-tls-ca-file', '--client-tls-ca-file', [CompletionResultType]::ParameterName, 'Certificates (PEM) to trust instead of the system''s')
            [CompletionResult]::new('--client-tls-cert-file', '--client-tls-cert-file', [CompletionResultType]::ParameterName, 'Certificate (PEM) to show to the server')
            [CompletionResult]::new('--client-tls-key-file', '--client-tls-key-file', [CompletionResultType]::ParameterName, 'Key (PEM) of that certificate')
            [CompletionResult]::new('--disable-direct-connections', '--disable-direct-connections', [CompletionResultType]::ParameterName, 'Use the relay only, never a direct path')
            [CompletionResult]::new('--disable-network-telemetry', '--disable-network-telemetry', [CompletionResultType]::ParameterName, 'Accepted; no telemetry is ever sent')
            [CompletionResult]::new('--no-version-warning', '--no-version-warning', [CompletionResultType]::ParameterName, 'Do not warn about a server that is too old')
            [CompletionResult]::new('--no-feature-warning', '--no-feature-warning', [CompletionResultType]::ParameterName, 'Do not show warnings about the server''s licence')
            [CompletionResult]::new('--use-keyring', '--use-keyring', [CompletionResultType]::ParameterName, 'Accepted; logins are kept in files only')
            [CompletionResult]::new('--force-tty', '--force-tty', [CompletionResultType]::ParameterName, 'Behave as if stdin, stdout and stderr were terminals')
            [CompletionResult]::new('--no-open', '--no-open', [CompletionResultType]::ParameterName, 'Never open a browser')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--http-timeout', '--http-timeout', [CompletionResultType]::ParameterName, 'Time limit of each request to the server')
            [CompletionResult]::new('--header', '--header', [CompletionResultType]::ParameterName, 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('login', 'login', [CompletionResultType]::ParameterValue, 'Log in to a deployment, and store the login for this client and the `coder` client')
            [CompletionResult]::new('list', 'list', [CompletionResultType]::ParameterValue, 'List workspaces and their states')
            [CompletionResult]::new('ls', 'ls', [CompletionResultType]::ParameterValue, 'List workspaces and their states')
            [CompletionResult]::new('ssh', 'ssh', [CompletionResultType]::ParameterValue, 'Open a shell in a workspace, or run a command there')
            [CompletionResult]::new('port-forward', 'port-forward', [CompletionResultType]::ParameterValue, 'Forward local ports to ports of a workspace')
            [CompletionResult]::new('tunnel', 'tunnel', [CompletionResultType]::ParameterValue, 'Forward local ports to ports of a workspace')
            [CompletionResult]::new('version', 'version', [CompletionResultType]::ParameterValue, 'Show the version')
            [CompletionResult]::new('generate', 'generate', [CompletionResultType]::ParameterValue, 'Write completions and man pages, as they are committed to the repository')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'coderctl;login' {
            [CompletionResult]::new('--use-token-as-session', '--use-token-as-session', [CompletionResultType]::ParameterName, 'Store the given token itself instead of a new one made with it')
            [CompletionResult]::new('--header', '--header', [CompletionResultType]::ParameterName, 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]')
            [CompletionResult]::new('--url', '--url', [CompletionResultType]::ParameterName, 'URL of the Coder deployment')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'Session token; the variable keeps it out of the process list')
            [CompletionResult]::new('--global-config', '--global-config', [CompletionResultType]::ParameterName, 'Directory of the login, shared with the `coder` client')
            [CompletionResult]::new('--header-command', '--header-command', [CompletionResultType]::ParameterName, 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`')
            [CompletionResult]::new('--client-tls-ca-file', '--client-tls-ca-file', [CompletionResultType]::ParameterName, 'Certificates (PEM) to trust instead of the system''s')
            [CompletionResult]::new('--client-tls-cert-file', '--client-tls-cert-file', [CompletionResultType]::ParameterName, 'Certificate (PEM) to show to the server')
            [CompletionResult]::new('--client-tls-key-file', '--client-tls-key-file', [CompletionResultType]::ParameterName, 'Key (PEM) of that certificate')
            [CompletionResult]::new('--disable-direct-connections', '--disable-direct-connections', [CompletionResultType]::ParameterName, 'Use the relay only, never a direct path')
            [CompletionResult]::new('--disable-network-telemetry', '--disable-network-telemetry', [CompletionResultType]::ParameterName, 'Accepted; no telemetry is ever sent')
            [CompletionResult]::new('--no-version-warning', '--no-version-warning', [CompletionResultType]::ParameterName, 'Do not warn about a server that is too old')
            [CompletionResult]::new('--no-feature-warning', '--no-feature-warning', [CompletionResultType]::ParameterName, 'Do not show warnings about the server''s licence')
            [CompletionResult]::new('--use-keyring', '--use-keyring', [CompletionResultType]::ParameterName, 'Accepted; logins are kept in files only')
            [CompletionResult]::new('--force-tty', '--force-tty', [CompletionResultType]::ParameterName, 'Behave as if stdin, stdout and stderr were terminals')
            [CompletionResult]::new('--no-open', '--no-open', [CompletionResultType]::ParameterName, 'Never open a browser')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--http-timeout', '--http-timeout', [CompletionResultType]::ParameterName, 'Time limit of each request to the server')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'coderctl;list' {
            [CompletionResult]::new('-a', '-a', [CompletionResultType]::ParameterName, 'Show workspaces of all owners')
            [CompletionResult]::new('--all', '--all', [CompletionResultType]::ParameterName, 'Show workspaces of all owners')
            [CompletionResult]::new('--search', '--search', [CompletionResultType]::ParameterName, 'What to search for, e.g. `owner:me status:running`')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to show them')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to show them')
            [CompletionResult]::new('-c', '-c', [CompletionResultType]::ParameterName, 'Columns of the table, separated by commas')
            [CompletionResult]::new('--column', '--column', [CompletionResultType]::ParameterName, 'Columns of the table, separated by commas')
            [CompletionResult]::new('--header', '--header', [CompletionResultType]::ParameterName, 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]')
            [CompletionResult]::new('--url', '--url', [CompletionResultType]::ParameterName, 'URL of the Coder deployment')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'Session token; the variable keeps it out of the process list')
            [CompletionResult]::new('--global-config', '--global-config', [CompletionResultType]::ParameterName, 'Directory of the login, shared with the `coder` client')
            [CompletionResult]::new('--header-command', '--header-command', [CompletionResultType]::ParameterName, 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`')
            [CompletionResult]::new('--client-tls-ca-file', '--client-tls-ca-file', [CompletionResultType]::ParameterName, 'Certificates (PEM) to trust instead of the system''s')
            [CompletionResult]::new('--client-tls-cert-file', '--client-tls-cert-file', [CompletionResultType]::ParameterName, 'Certificate (PEM) to show to the server')
            [CompletionResult]::new('--client-tls-key-file', '--client-tls-key-file', [CompletionResultType]::ParameterName, 'Key (PEM) of that certificate')
            [CompletionResult]::new('--disable-direct-connections', '--disable-direct-connections', [CompletionResultType]::ParameterName, 'Use the relay only, never a direct path')
            [CompletionResult]::new('--disable-network-telemetry', '--disable-network-telemetry', [CompletionResultType]::ParameterName, 'Accepted; no telemetry is ever sent')
            [CompletionResult]::new('--no-version-warning', '--no-version-warning', [CompletionResultType]::ParameterName, 'Do not warn about a server that is too old')
            [CompletionResult]::new('--no-feature-warning', '--no-feature-warning', [CompletionResultType]::ParameterName, 'Do not show warnings about the server''s licence')
            [CompletionResult]::new('--use-keyring', '--use-keyring', [CompletionResultType]::ParameterName, 'Accepted; logins are kept in files only')
            [CompletionResult]::new('--force-tty', '--force-tty', [CompletionResultType]::ParameterName, 'Behave as if stdin, stdout and stderr were terminals')
            [CompletionResult]::new('--no-open', '--no-open', [CompletionResultType]::ParameterName, 'Never open a browser')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--http-timeout', '--http-timeout', [CompletionResultType]::ParameterName, 'Time limit of each request to the server')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'coderctl;ls' {
            [CompletionResult]::new('-a', '-a', [CompletionResultType]::ParameterName, 'Show workspaces of all owners')
            [CompletionResult]::new('--all', '--all', [CompletionResultType]::ParameterName, 'Show workspaces of all owners')
            [CompletionResult]::new('--search', '--search', [CompletionResultType]::ParameterName, 'What to search for, e.g. `owner:me status:running`')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to show them')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to show them')
            [CompletionResult]::new('-c', '-c', [CompletionResultType]::ParameterName, 'Columns of the table, separated by commas')
            [CompletionResult]::new('--column', '--column', [CompletionResultType]::ParameterName, 'Columns of the table, separated by commas')
            [CompletionResult]::new('--header', '--header', [CompletionResultType]::ParameterName, 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]')
            [CompletionResult]::new('--url', '--url', [CompletionResultType]::ParameterName, 'URL of the Coder deployment')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'Session token; the variable keeps it out of the process list')
            [CompletionResult]::new('--global-config', '--global-config', [CompletionResultType]::ParameterName, 'Directory of the login, shared with the `coder` client')
            [CompletionResult]::new('--header-command', '--header-command', [CompletionResultType]::ParameterName, 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`')
            [CompletionResult]::new('--client-tls-ca-file', '--client-tls-ca-file', [CompletionResultType]::ParameterName, 'Certificates (PEM) to trust instead of the system''s')
            [CompletionResult]::new('--client-tls-cert-file', '--client-tls-cert-file', [CompletionResultType]::ParameterName, 'Certificate (PEM) to show to the server')
            [CompletionResult]::new('--client-tls-key-file', '--client-tls-key-file', [CompletionResultType]::ParameterName, 'Key (PEM) of that certificate')
            [CompletionResult]::new('--disable-direct-connections', '--disable-direct-connections', [CompletionResultType]::ParameterName, 'Use the relay only, never a direct path')
            [CompletionResult]::new('--disable-network-telemetry', '--disable-network-telemetry', [CompletionResultType]::ParameterName, 'Accepted; no telemetry is ever sent')
            [CompletionResult]::new('--no-version-warning', '--no-version-warning', [CompletionResultType]::ParameterName, 'Do not warn about a server that is too old')
            [CompletionResult]::new('--no-feature-warning', '--no-feature-warning', [CompletionResultType]::ParameterName, 'Do not show warnings about the server''s licence')
            [CompletionResult]::new('--use-keyring', '--use-keyring', [CompletionResultType]::ParameterName, 'Accepted; logins are kept in files only')
            [CompletionResult]::new('--force-tty', '--force-tty', [CompletionResultType]::ParameterName, 'Behave as if stdin, stdout and stderr were terminals')
            [CompletionResult]::new('--no-open', '--no-open', [CompletionResultType]::ParameterName, 'Never open a browser')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--http-timeout', '--http-timeout', [CompletionResultType]::ParameterName, 'Time limit of each request to the server')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'coderctl;ssh' {
            [CompletionResult]::new('--stdio', '--stdio', [CompletionResultType]::ParameterName, 'Carry SSH on stdin and stdout, for OpenSSH''s ProxyCommand')
            [CompletionResult]::new('-t', '-t', [CompletionResultType]::ParameterName, 'Give a command a terminal; a shell always has one')
            [CompletionResult]::new('--tty', '--tty', [CompletionResultType]::ParameterName, 'Give a command a terminal; a shell always has one')
            [CompletionResult]::new('-e', '-e', [CompletionResultType]::ParameterName, 'Environment variable of the session; repeatable [env: CODER_SSH_ENV]')
            [CompletionResult]::new('--env', '--env', [CompletionResultType]::ParameterName, 'Environment variable of the session; repeatable [env: CODER_SSH_ENV]')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Whether to wait for the workspace''s start scripts; auto waits for blocking ones')
            [CompletionResult]::new('--no-wait', '--no-wait', [CompletionResultType]::ParameterName, 'Deprecated: use --wait no')
            [CompletionResult]::new('--disable-autostart', '--disable-autostart', [CompletionResultType]::ParameterName, 'Do not start a stopped workspace')
            [CompletionResult]::new('--ssh-host-prefix', '--ssh-host-prefix', [CompletionResultType]::ParameterName, 'Prefix to strip from the host name that OpenSSH hands over')
            [CompletionResult]::new('--hostname-suffix', '--hostname-suffix', [CompletionResultType]::ParameterName, 'Suffix to strip from the host name, without its dot')
            [CompletionResult]::new('-l', '-l', [CompletionResultType]::ParameterName, 'Directory for a debug log of this session')
            [CompletionResult]::new('--log-dir', '--log-dir', [CompletionResultType]::ParameterName, 'Directory for a debug log of this session')
            [CompletionResult]::new('--usage-app', '--usage-app', [CompletionResultType]::ParameterName, 'Name that usage is reported under: ssh, vscode, jetbrains, or disable')
            [CompletionResult]::new('--network-info-dir', '--network-info-dir', [CompletionResultType]::ParameterName, 'Accepted for editor extensions')
            [CompletionResult]::new('--network-info-interval', '--network-info-interval', [CompletionResultType]::ParameterName, 'Accepted for editor extensions')
            [CompletionResult]::new('--workspace-poll-interval', '--workspace-poll-interval', [CompletionResultType]::ParameterName, 'Accepted for older configurations')
            [CompletionResult]::new('--force-new-tunnel', '--force-new-tunnel', [CompletionResultType]::ParameterName, 'Accepted: a tunnel of our own is always used')
            [CompletionResult]::new('-A', '-A ', [CompletionResultType]::ParameterName, 'Forward the SSH agent; not supported yet')
            [CompletionResult]::new('--forward-agent', '--forward-agent', [CompletionResultType]::ParameterName, 'Forward the SSH agent; not supported yet')
            [CompletionResult]::new('--identity-agent', '--identity-agent', [CompletionResultType]::ParameterName, 'Socket of the SSH agent to forward; not supported yet')
            [CompletionResult]::new('-G', '-G ', [CompletionResultType]::ParameterName, 'Forward the GPG agent; not supported yet')
            [CompletionResult]::new('--forward-gpg', '--forward-gpg', [CompletionResultType]::ParameterName, 'Forward the GPG agent; not supported yet')
            [CompletionResult]::new('-R', '-R ', [CompletionResultType]::ParameterName, 'Forward a port of the workspace to here; not supported yet [env: CODER_SSH_REMOTE_FORWARD]')
            [CompletionResult]::new('--remote-forward', '--remote-forward', [CompletionResultType]::ParameterName, 'Forward a port of the workspace to here; not supported yet [env: CODER_SSH_REMOTE_FORWARD]')
            [CompletionResult]::new('-c', '-c', [CompletionResultType]::ParameterName, 'Container in the workspace; not supported yet')
            [CompletionResult]::new('--container', '--container', [CompletionResultType]::ParameterName, 'Container in the workspace; not supported yet')
            [CompletionResult]::new('--container-user', '--container-user', [CompletionResultType]::ParameterName, 'User in that container')
            [CompletionResult]::new('--header', '--header', [CompletionResultType]::ParameterName, 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]')
            [CompletionResult]::new('--url', '--url', [CompletionResultType]::ParameterName, 'URL of the Coder deployment')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'Session token; the variable keeps it out of the process list')
            [CompletionResult]::new('--global-config', '--global-config', [CompletionResultType]::ParameterName, 'Directory of the login, shared with the `coder` client')
            [CompletionResult]::new('--header-command', '--header-command', [CompletionResultType]::ParameterName, 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`')
            [CompletionResult]::new('--client-tls-ca-file', '--client-tls-ca-file', [CompletionResultType]::ParameterName, 'Certificates (PEM) to trust instead of the system''s')
            [CompletionResult]::new('--client-tls-cert-file', '--client-tls-cert-file', [CompletionResultType]::ParameterName, 'Certificate (PEM) to show to the server')
            [CompletionResult]::new('--client-tls-key-file', '--client-tls-key-file', [CompletionResultType]::ParameterName, 'Key (PEM) of that certificate')
            [CompletionResult]::new('--disable-direct-connections', '--disable-direct-connections', [CompletionResultType]::ParameterName, 'Use the relay only, never a direct path')
            [CompletionResult]::new('--disable-network-telemetry', '--disable-network-telemetry', [CompletionResultType]::ParameterName, 'Accepted; no telemetry is ever sent')
            [CompletionResult]::new('--no-version-warning', '--no-version-warning', [CompletionResultType]::ParameterName, 'Do not warn about a server that is too old')
            [CompletionResult]::new('--no-feature-warning', '--no-feature-warning', [CompletionResultType]::ParameterName, 'Do not show warnings about the server''s licence')
            [CompletionResult]::new('--use-keyring', '--use-keyring', [CompletionResultType]::ParameterName, 'Accepted; logins are kept in files only')
            [CompletionResult]::new('--force-tty', '--force-tty', [CompletionResultType]::ParameterName, 'Behave as if stdin, stdout and stderr were terminals')
            [CompletionResult]::new('--no-open', '--no-open', [CompletionResultType]::ParameterName, 'Never open a browser')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--http-timeout', '--http-timeout', [CompletionResultType]::ParameterName, 'Time limit of each request to the server')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'coderctl;port-forward' {
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'TCP ports to forward; repeatable [env: CODER_PORT_FORWARD_TCP]')
            [CompletionResult]::new('--tcp', '--tcp', [CompletionResultType]::ParameterName, 'TCP ports to forward; repeatable [env: CODER_PORT_FORWARD_TCP]')
            [CompletionResult]::new('--udp', '--udp', [CompletionResultType]::ParameterName, 'UDP ports to forward; not supported yet [env: CODER_PORT_FORWARD_UDP]')
            [CompletionResult]::new('--disable-autostart', '--disable-autostart', [CompletionResultType]::ParameterName, 'Do not start a stopped workspace')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Whether to wait for the workspace''s start scripts; auto does not')
            [CompletionResult]::new('--header', '--header', [CompletionResultType]::ParameterName, 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]')
            [CompletionResult]::new('--url', '--url', [CompletionResultType]::ParameterName, 'URL of the Coder deployment')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'Session token; the variable keeps it out of the process list')
            [CompletionResult]::new('--global-config', '--global-config', [CompletionResultType]::ParameterName, 'Directory of the login, shared with the `coder` client')
            [CompletionResult]::new('--header-command', '--header-command', [CompletionResultType]::ParameterName, 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`')
            [CompletionResult]::new('--client-tls-ca-file', '--client-tls-ca-file', [CompletionResultType]::ParameterName, 'Certificates (PEM) to trust instead of the system''s')
            [CompletionResult]::new('--client-tls-cert-file', '--client-tls-cert-file', [CompletionResultType]::ParameterName, 'Certificate (PEM) to show to the server')
            [CompletionResult]::new('--client-tls-key-file', '--client-tls-key-file', [CompletionResultType]::ParameterName, 'Key (PEM) of that certificate')
            [CompletionResult]::new('--disable-direct-connections', '--disable-direct-connections', [CompletionResultType]::ParameterName, 'Use the relay only, never a direct path')
            [CompletionResult]::new('--disable-network-telemetry', '--disable-network-telemetry', [CompletionResultType]::ParameterName, 'Accepted; no telemetry is ever sent')
            [CompletionResult]::new('--no-version-warning', '--no-version-warning', [CompletionResultType]::ParameterName, 'Do not warn about a server that is too old')
            [CompletionResult]::new('--no-feature-warning', '--no-feature-warning', [CompletionResultType]::ParameterName, 'Do not show warnings about the server''s licence')
            [CompletionResult]::new('--use-keyring', '--use-keyring', [CompletionResultType]::ParameterName, 'Accepted; logins are kept in files only')
            [CompletionResult]::new('--force-tty', '--force-tty', [CompletionResultType]::ParameterName, 'Behave as if stdin, stdout and stderr were terminals')
            [CompletionResult]::new('--no-open', '--no-open', [CompletionResultType]::ParameterName, 'Never open a browser')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--http-timeout', '--http-timeout', [CompletionResultType]::ParameterName, 'Time limit of each request to the server')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'coderctl;tunnel' {
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'TCP ports to forward; repeatable [env: CODER_PORT_FORWARD_TCP]')
            [CompletionResult]::new('--tcp', '--tcp', [CompletionResultType]::ParameterName, 'TCP ports to forward; repeatable [env: CODER_PORT_FORWARD_TCP]')
            [CompletionResult]::new('--udp', '--udp', [CompletionResultType]::ParameterName, 'UDP ports to forward; not supported yet [env: CODER_PORT_FORWARD_UDP]')
            [CompletionResult]::new('--disable-autostart', '--disable-autostart', [CompletionResultType]::ParameterName, 'Do not start a stopped workspace')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Whether to wait for the workspace''s start scripts; auto does not')
            [CompletionResult]::new('--header', '--header', [CompletionResultType]::ParameterName, 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]')
            [CompletionResult]::new('--url', '--url', [CompletionResultType]::ParameterName, 'URL of the Coder deployment')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'Session token; the variable keeps it out of the process list')
            [CompletionResult]::new('--global-config', '--global-config', [CompletionResultType]::ParameterName, 'Directory of the login, shared with the `coder` client')
            [CompletionResult]::new('--header-command', '--header-command', [CompletionResultType]::ParameterName, 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`')
            [CompletionResult]::new('--client-tls-ca-file', '--client-tls-ca-file', [CompletionResultType]::ParameterName, 'Certificates (PEM) to trust instead of the system''s')
            [CompletionResult]::new('--client-tls-cert-file', '--client-tls-cert-file', [CompletionResultType]::ParameterName, 'Certificate (PEM) to show to the server')
            [CompletionResult]::new('--client-tls-key-file', '--client-tls-key-file', [CompletionResultType]::ParameterName, 'Key (PEM) of that certificate')
            [CompletionResult]::new('--disable-direct-connections', '--disable-direct-connections', [CompletionResultType]::ParameterName, 'Use the relay only, never a direct path')
            [CompletionResult]::new('--disable-network-telemetry', '--disable-network-telemetry', [CompletionResultType]::ParameterName, 'Accepted; no telemetry is ever sent')
            [CompletionResult]::new('--no-version-warning', '--no-version-warning', [CompletionResultType]::ParameterName, 'Do not warn about a server that is too old')
            [CompletionResult]::new('--no-feature-warning', '--no-feature-warning', [CompletionResultType]::ParameterName, 'Do not show warnings about the server''s licence')
            [CompletionResult]::new('--use-keyring', '--use-keyring', [CompletionResultType]::ParameterName, 'Accepted; logins are kept in files only')
            [CompletionResult]::new('--force-tty', '--force-tty', [CompletionResultType]::ParameterName, 'Behave as if stdin, stdout and stderr were terminals')
            [CompletionResult]::new('--no-open', '--no-open', [CompletionResultType]::ParameterName, 'Never open a browser')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--http-timeout', '--http-timeout', [CompletionResultType]::ParameterName, 'Time limit of each request to the server')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'coderctl;version' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to show it')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to show it')
            [CompletionResult]::new('--url', '--url', [CompletionResultType]::ParameterName, 'URL of the Coder deployment')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'Session token; the variable keeps it out of the process list')
            [CompletionResult]::new('--global-config', '--global-config', [CompletionResultType]::ParameterName, 'Directory of the login, shared with the `coder` client')
            [CompletionResult]::new('--header-command', '--header-command', [CompletionResultType]::ParameterName, 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`')
            [CompletionResult]::new('--client-tls-ca-file', '--client-tls-ca-file', [CompletionResultType]::ParameterName, 'Certificates (PEM) to trust instead of the system''s')
            [CompletionResult]::new('--client-tls-cert-file', '--client-tls-cert-file', [CompletionResultType]::ParameterName, 'Certificate (PEM) to show to the server')
            [CompletionResult]::new('--client-tls-key-file', '--client-tls-key-file', [CompletionResultType]::ParameterName, 'Key (PEM) of that certificate')
            [CompletionResult]::new('--disable-direct-connections', '--disable-direct-connections', [CompletionResultType]::ParameterName, 'Use the relay only, never a direct path')
            [CompletionResult]::new('--disable-network-telemetry', '--disable-network-telemetry', [CompletionResultType]::ParameterName, 'Accepted; no telemetry is ever sent')
            [CompletionResult]::new('--no-version-warning', '--no-version-warning', [CompletionResultType]::ParameterName, 'Do not warn about a server that is too old')
            [CompletionResult]::new('--no-feature-warning', '--no-feature-warning', [CompletionResultType]::ParameterName, 'Do not show warnings about the server''s licence')
            [CompletionResult]::new('--use-keyring', '--use-keyring', [CompletionResultType]::ParameterName, 'Accepted; logins are kept in files only')
            [CompletionResult]::new('--force-tty', '--force-tty', [CompletionResultType]::ParameterName, 'Behave as if stdin, stdout and stderr were terminals')
            [CompletionResult]::new('--no-open', '--no-open', [CompletionResultType]::ParameterName, 'Never open a browser')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--http-timeout', '--http-timeout', [CompletionResultType]::ParameterName, 'Time limit of each request to the server')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'coderctl;generate' {
            [CompletionResult]::new('--url', '--url', [CompletionResultType]::ParameterName, 'URL of the Coder deployment')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'Session token; the variable keeps it out of the process list')
            [CompletionResult]::new('--global-config', '--global-config', [CompletionResultType]::ParameterName, 'Directory of the login, shared with the `coder` client')
            [CompletionResult]::new('--header-command', '--header-command', [CompletionResultType]::ParameterName, 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`')
            [CompletionResult]::new('--client-tls-ca-file', '--client-tls-ca-file', [CompletionResultType]::ParameterName, 'Certificates (PEM) to trust instead of the system''s')
            [CompletionResult]::new('--client-tls-cert-file', '--client-tls-cert-file', [CompletionResultType]::ParameterName, 'Certificate (PEM) to show to the server')
            [CompletionResult]::new('--client-tls-key-file', '--client-tls-key-file', [CompletionResultType]::ParameterName, 'Key (PEM) of that certificate')
            [CompletionResult]::new('--disable-direct-connections', '--disable-direct-connections', [CompletionResultType]::ParameterName, 'Use the relay only, never a direct path')
            [CompletionResult]::new('--disable-network-telemetry', '--disable-network-telemetry', [CompletionResultType]::ParameterName, 'Accepted; no telemetry is ever sent')
            [CompletionResult]::new('--no-version-warning', '--no-version-warning', [CompletionResultType]::ParameterName, 'Do not warn about a server that is too old')
            [CompletionResult]::new('--no-feature-warning', '--no-feature-warning', [CompletionResultType]::ParameterName, 'Do not show warnings about the server''s licence')
            [CompletionResult]::new('--use-keyring', '--use-keyring', [CompletionResultType]::ParameterName, 'Accepted; logins are kept in files only')
            [CompletionResult]::new('--force-tty', '--force-tty', [CompletionResultType]::ParameterName, 'Behave as if stdin, stdout and stderr were terminals')
            [CompletionResult]::new('--no-open', '--no-open', [CompletionResultType]::ParameterName, 'Never open a browser')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show steps with their durations; twice for debug logs')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but warnings and errors')
            [CompletionResult]::new('--http-timeout', '--http-timeout', [CompletionResultType]::ParameterName, 'Time limit of each request to the server')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'coderctl;help' {
            [CompletionResult]::new('login', 'login', [CompletionResultType]::ParameterValue, 'Log in to a deployment, and store the login for this client and the `coder` client')
            [CompletionResult]::new('list', 'list', [CompletionResultType]::ParameterValue, 'List workspaces and their states')
            [CompletionResult]::new('ssh', 'ssh', [CompletionResultType]::ParameterValue, 'Open a shell in a workspace, or run a command there')
            [CompletionResult]::new('port-forward', 'port-forward', [CompletionResultType]::ParameterValue, 'Forward local ports to ports of a workspace')
            [CompletionResult]::new('version', 'version', [CompletionResultType]::ParameterValue, 'Show the version')
            [CompletionResult]::new('generate', 'generate', [CompletionResultType]::ParameterValue, 'Write completions and man pages, as they are committed to the repository')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'coderctl;help;login' {
            break
        }
        'coderctl;help;list' {
            break
        }
        'coderctl;help;ssh' {
            break
        }
        'coderctl;help;port-forward' {
            break
        }
        'coderctl;help;version' {
            break
        }
        'coderctl;help;generate' {
            break
        }
        'coderctl;help;help' {
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
