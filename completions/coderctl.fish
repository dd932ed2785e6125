# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_coderctl_global_optspecs
    string join \n url= token= global-config= header-command= client-tls-ca-file= client-tls-cert-file= client-tls-key-file= disable-direct-connections= disable-network-telemetry= no-version-warning= no-feature-warning= use-keyring= force-tty= no-open= v/verbose= q/quiet= events= events-fd= http-timeout= header= h/help V/version
end

function __fish_coderctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_coderctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_coderctl_using_subcommand
    set -l cmd (__fish_coderctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c coderctl -n "__fish_coderctl_needs_command" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_needs_command" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_needs_command" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_needs_command" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_needs_command" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_needs_command" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_needs_command" -s V -l version -d 'Print version'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "login" -d 'Log in to a deployment, and store the login for this client and the `coder` client'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "logout" -d 'End the stored login, here and at the deployment'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "whoami" -d 'Show who is logged in, and where'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "list" -d 'List workspaces and their states'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "ls" -d 'List workspaces and their states'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "show" -d 'Show a workspace: its state, its latest build, its agents'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "ssh" -d 'Open a shell in a workspace, or run a command there'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "sessions" -d 'List the sessions of a workspace that `ssh --session` comes back to'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "vscodessh" -d 'Carry SSH on stdin and stdout for an editor extension'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "port-forward" -d 'Forward ports and sockets to a workspace and back'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "tunnel" -d 'Forward ports and sockets to a workspace and back'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "cp" -d 'Copy files into a workspace, or out of it'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "config-ssh" -d 'Let OpenSSH reach all workspaces, as WORKSPACE.coderctl'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "ping" -d 'Measure round trips to a workspace, and show the way they take'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "speedtest" -d 'Measure how much the tunnel to a workspace carries'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "netcheck" -d 'Check what this network lets through to the deployment\'s relays and beyond'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "create" -d 'Create a workspace, and wait until it runs'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "start" -d 'Start a workspace, and wait until it runs'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "stop" -d 'Stop a workspace, and wait until it is stopped'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "restart" -d 'Stop a workspace, start it again, and wait until it runs'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "delete" -d 'Delete a workspace and everything in it'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "rm" -d 'Delete a workspace and everything in it'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "wait" -d 'Wait until a workspace is where it should be'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "logs" -d 'Show the logs of a workspace\'s build and of its agents\' scripts'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "demo" -d 'Run a command on a throw-away deployment with one workspace'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "server" -d 'Run a Coder-compatible deployment: control plane, relay, workspaces'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "agent" -d 'Run a workspace agent'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "version" -d 'Show the version'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "generate" -d 'Write completions and man pages, as they are committed to the repository'
complete -c coderctl -n "__fish_coderctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l token-stdin -d 'Read the token from the first line of standard input, which no process list shows' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l use-token-as-session -d 'Store the given token itself instead of a new one made with it' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand login" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -s y -l yes -d 'Do not ask' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logout" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -s o -l output -d 'How to show it' -r -f -a "text\t''
json\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand whoami" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -s a -l all -d 'Show workspaces of all owners' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l search -d 'What to search for, e.g. `owner:me status:running`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -s o -l output -d 'How to show them' -r -f -a "table\t''
json\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -s c -l column -d 'Columns of the table, separated by commas' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -s a -l all -d 'Show workspaces of all owners' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l search -d 'What to search for, e.g. `owner:me status:running`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -s o -l output -d 'How to show them' -r -f -a "table\t''
json\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -s c -l column -d 'Columns of the table, separated by commas' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -s o -l output -d 'How to show it' -r -f -a "table\t''
json\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l stdio -d 'Carry SSH on stdin and stdout, for OpenSSH\'s ProxyCommand' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s t -l tty -d 'Give a command a terminal; a shell has one anyway' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s T -l no-tty -d 'Give a shell no terminal' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s N -l no-command -d 'Run neither a shell nor a command, forwards only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l session -d 'Terminal of this name, which goes on in the workspace when the connection is lost or left; it is come back to by itself, and by the same name from anywhere' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s e -l env -d 'Environment variable of the session; repeatable [env: CODER_SSH_ENV]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l env-file -d 'File of such variables, one in a line; repeatable' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s L -l local-forward -d 'Forward a local port or socket to a host or socket that the workspace reaches; repeatable' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s R -l remote-forward -d 'Forward a port or socket of the workspace to a host or socket reached from here; repeatable [env: CODER_SSH_REMOTE_FORWARD]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s D -l dynamic-forward -d 'Local SOCKS 5 port for connections from the workspace to anywhere; repeatable' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s A -l forward-agent -d 'Let programs in the workspace use the SSH keys of the agent behind SSH_AUTH_SOCK' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l identity-agent -d 'Socket of another SSH agent to forward' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l escape-char -d 'Character that begins an escape on a terminal, or none' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l wait -d 'Whether to wait for the workspace\'s start scripts; auto waits for blocking ones' -r -f -a "yes\t''
no\t''
auto\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l no-wait -d 'Deprecated: use --wait no' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l disable-autostart -d 'Do not start a stopped workspace' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l ssh-host-prefix -d 'Prefix to strip from the host name that OpenSSH hands over' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l hostname-suffix -d 'Suffix to strip from the host name, without its dot' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s l -l log-dir -d 'Directory for a debug log of this session' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l usage-app -d 'Name that usage is reported under: ssh, vscode, jetbrains, or disable' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l network-info-dir -d 'Directory for a file that tells editor extensions how the tunnel is' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l network-info-interval -d 'How often it is written; 5s unless given' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l workspace-poll-interval -d 'Accepted for older configurations' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l force-new-tunnel -d 'Accepted: a tunnel of our own is always used' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s G -l forward-gpg -d 'Let programs in the workspace use the keys of the GPG agent that runs here' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s c -l container -d 'Container of the workspace to run it in, by name or id' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l container-user -d 'User to be in that container' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l timeout -d 'For everything until it is ready' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l start-timeout -d 'For the workspace to start' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l agent-timeout -d 'For the agent to connect; 10m unless given' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l connect-timeout -d 'For the tunnel to come up' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ssh" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -s o -l output -d 'How to show them' -r -f -a "table\t''
json\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand sessions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l network-info-dir -d 'Directory for a file that tells how the tunnel is' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l network-info-interval -d 'How often it is written; 5s unless given' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l session-token-file -d 'File with the session token' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l url-file -d 'File with the URL of the deployment' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l log-dir -d 'Directory for a debug log of this session' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l wait -d 'Whether to wait for the workspace\'s start scripts; auto waits for blocking ones' -r -f -a "yes\t''
no\t''
auto\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand vscodessh" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -s p -l tcp -d 'TCP ports to forward; repeatable [env: CODER_PORT_FORWARD_TCP]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l udp -d 'UDP ports to forward; repeatable [env: CODER_PORT_FORWARD_UDP]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -s L -l local -d 'Forward a local port or socket to a host or socket that the workspace reaches; repeatable' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -s R -l remote -d 'Forward a port or socket of the workspace to a host or socket reached from here; repeatable' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -s D -l dynamic -d 'Local SOCKS 5 port for connections from the workspace to anywhere; repeatable' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l disable-autostart -d 'Do not start a stopped workspace' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l wait -d 'Whether to wait for the workspace\'s start scripts; auto does not' -r -f -a "yes\t''
no\t''
auto\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l wait-remote -d 'Be ready only when all places that TCP forwards lead to accept a connection; fail if they do not within this time of the first tunnel' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l ready-file -d 'Write a JSON line to this file when ready, and remove it at the end' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l ready-fd -d 'Write a JSON line to this inherited descriptor when ready' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -s o -l output -d 'What to write to standard output when ready: nothing, or one line with all forwards' -r -f -a "text\t''
json\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l once -d 'End with the reason\'s exit code when the tunnel is lost, instead of waiting for it to come back' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l restart -d 'Start the workspace again when somebody stops it meanwhile' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l timeout -d 'For everything until it is ready' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l start-timeout -d 'For the workspace to start' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l agent-timeout -d 'For the agent to connect; 10m unless given' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l connect-timeout -d 'For the tunnel to come up' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l reconnect-timeout -d 'For everything to be back after it was lost; without, it waits for as long as it takes' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l idle-timeout -d 'End when nothing was open for this long' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand port-forward" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -s p -l tcp -d 'TCP ports to forward; repeatable [env: CODER_PORT_FORWARD_TCP]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l udp -d 'UDP ports to forward; repeatable [env: CODER_PORT_FORWARD_UDP]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -s L -l local -d 'Forward a local port or socket to a host or socket that the workspace reaches; repeatable' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -s R -l remote -d 'Forward a port or socket of the workspace to a host or socket reached from here; repeatable' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -s D -l dynamic -d 'Local SOCKS 5 port for connections from the workspace to anywhere; repeatable' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l disable-autostart -d 'Do not start a stopped workspace' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l wait -d 'Whether to wait for the workspace\'s start scripts; auto does not' -r -f -a "yes\t''
no\t''
auto\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l wait-remote -d 'Be ready only when all places that TCP forwards lead to accept a connection; fail if they do not within this time of the first tunnel' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l ready-file -d 'Write a JSON line to this file when ready, and remove it at the end' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l ready-fd -d 'Write a JSON line to this inherited descriptor when ready' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -s o -l output -d 'What to write to standard output when ready: nothing, or one line with all forwards' -r -f -a "text\t''
json\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l once -d 'End with the reason\'s exit code when the tunnel is lost, instead of waiting for it to come back' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l restart -d 'Start the workspace again when somebody stops it meanwhile' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l timeout -d 'For everything until it is ready' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l start-timeout -d 'For the workspace to start' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l agent-timeout -d 'For the agent to connect; 10m unless given' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l connect-timeout -d 'For the tunnel to come up' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l reconnect-timeout -d 'For everything to be back after it was lost; without, it waits for as long as it takes' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l idle-timeout -d 'End when nothing was open for this long' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand tunnel" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -s r -l recursive -d 'Copy directories with all that is in them' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -s p -l preserve -d 'Keep permissions and times' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l resume -d 'Go on where an earlier copy ended, and pass over files that are whole; implies -p' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -s f -l force -d 'Replace files that are there' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -s o -l output -d 'What to write to standard output at the end: nothing, or what became of it' -r -f -a "text\t''
json\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l disable-autostart -d 'Do not start a stopped workspace' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l timeout -d 'For everything until it is ready' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l start-timeout -d 'For the workspace to start' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l agent-timeout -d 'For the agent to connect; 10m unless given' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l connect-timeout -d 'For the tunnel to come up' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand cp" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l ssh-config-file -d 'OpenSSH\'s configuration, ~/.ssh/config unless given' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l coder-binary-path -d 'Program that OpenSSH runs, this one unless given' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -s o -l ssh-option -d 'Option of OpenSSH\'s for all workspaces, as `Name=Value`; an empty value drops one that would be there; repeatable [env: CODER_SSH_CONFIG_OPTS]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l hostname-suffix -d 'What is behind a workspace\'s name, without its dot' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l wait -d 'Whether connections wait for the workspace\'s start scripts' -r -f -a "yes\t''
no\t''
auto\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l disable-autostart -d 'Connections do not start a stopped workspace' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -s n -l dry-run -d 'Show what would change, and change nothing' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l remove -d 'Undo it' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -s y -l yes -d 'Accepted; nothing is asked' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand config-ssh" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -s n -l num -d 'How many pings; without it until interrupted' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -s t -l timeout -d 'Time limit of each ping' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l wait -d 'Pause between two pings' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l time -d 'Begin each line with the local time' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l utc -d 'Begin each line with the time, in UTC' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -s o -l output -d 'How to show them' -r -f -a "table\t''
json\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand ping" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l direction -d 'What to measure' -r -f -a "down\t''
up\t''
both\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -s t -l time -d 'How long each direction is measured, up to 30s' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -s d -l direct -d 'Wait for a direct path first, up to half a minute' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -s o -l output -d 'How to show it' -r -f -a "table\t''
json\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -s c -l column -d 'Columns of the table, separated by commas' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l pcap-file -d 'Capture of packets; not supported' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand speedtest" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -s o -l output -d 'How to show it' -r -f -a "table\t''
json\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand netcheck" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -s t -l template -d 'Template, by name or as a file' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l preset -d 'Preset of the template; `none` for none, by default the template\'s own default' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -s O -l org -d 'Organization of the template, where several have one of that name' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l parameter -d 'Parameter of the template, as `name=value`; repeatable [env: CODER_RICH_PARAMETER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l no-wait -d 'Do not wait for the build' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l timeout -d 'Longest time to wait for the build; it goes on when that has passed' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -s y -l yes -d 'Accepted; nothing is asked' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l parameter -d 'Parameter of the template, as `name=value`; repeatable [env: CODER_RICH_PARAMETER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l no-wait -d 'Do not wait for the build' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l timeout -d 'Longest time to wait for the build; it goes on when that has passed' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -s y -l yes -d 'Accepted; nothing is asked' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand start" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -s y -l yes -d 'Do not ask' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l no-wait -d 'Do not wait for the build' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l timeout -d 'Longest time to wait for the build; it goes on when that has passed' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -s y -l yes -d 'Do not ask' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l parameter -d 'Parameter of the template, as `name=value`; repeatable [env: CODER_RICH_PARAMETER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l timeout -d 'Longest time to wait for both builds; they go on when that has passed' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand restart" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -s y -l yes -d 'Do not ask' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l no-wait -d 'Do not wait for the build' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l timeout -d 'Longest time to wait for the build; it goes on when that has passed' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -s y -l yes -d 'Do not ask' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l no-wait -d 'Do not wait for the build' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l timeout -d 'Longest time to wait for the build; it goes on when that has passed' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l for -d 'What to wait for' -r -f -a "started\t'Its start build has succeeded'
connected\t'Its agent has connected'
agent-ready\t'Its agent has connected, and its start scripts have succeeded'
stopped\t'Its stop build has succeeded'
deleted\t'There is no such workspace any more'"
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l timeout -d 'Longest time to wait; without, for as long as it takes' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -s o -l output -d 'What to write to standard output then' -r -f -a "none\t'Nothing'
json\t'The workspace'"
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand wait" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -s f -l follow -d 'Go on as they are written' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -s n -l build-number -d 'Number of the build; 0 is the latest, -1 the one before' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -s o -l output -d 'How to show them' -r -f -a "text\t''
json\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l state -d 'Directory of the state and of the workspaces' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l postgres -d 'URL of a PostgreSQL for the state; servers that share it act as one, and share --state' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l listen -d 'Address to listen on; port 0 takes a free one' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l access-url -d 'URL by which clients and agents reach the server, where it is not the address' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l relay-url -d 'URL by which other servers on the PostgreSQL reach this one, where it is not the address' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l tls-cert-file -d 'Certificate (PEM) to serve HTTPS with' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l insecure -d 'Serve plain HTTP to other machines, too' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l workspace -d 'Have a workspace of this name' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l template -d 'Template (TOML) of that workspace, instead of the built-in one' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l external-agent -d 'Leave the workspaces\' agents to be started by hand, with `coderctl agent`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l ready-file -d 'Write {"url", "token", "agent_token"} to this file once everything is up' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l fault-socket -d 'Unix socket that takes faults to inject, for tests' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand server" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l agent-url -d 'URL of the deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l agent-token -d 'Token of the agent; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l agent-token-file -d 'File with the token' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l auth -d 'How the agent proves who it is; only `token` is known' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l log-dir -d 'Directory for scripts\' logs that name no absolute path' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l script-data-dir -d 'Directory for scripts\' own data' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l ssh-max-timeout -d 'How long an SSH client may be silent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l block-file-transfer -d 'Refuse scp, sftp and rsync' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l block-reverse-port-forwarding -d 'Refuse forwards from the workspace to the client' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l block-local-port-forwarding -d 'Refuse forwards through SSH from the client to the workspace' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l header -d 'Header for every request, as `name=value`; repeatable [env: CODER_HEADER]' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand agent" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -s o -l output -d 'How to show it' -r -f -a "text\t''
json\t''"
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand version" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l url -d 'URL of the Coder deployment' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l token -d 'Session token; the variable keeps it out of the process list' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l global-config -d 'Directory of the login, shared with the `coder` client' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l header-command -d 'Command that prints further headers, one NAME=VALUE per line; run with `sh -c`' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l client-tls-ca-file -d 'Certificates (PEM) to trust instead of the system\'s' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l client-tls-cert-file -d 'Certificate (PEM) to show to the server' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l client-tls-key-file -d 'Key (PEM) of that certificate' -r -F
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l disable-direct-connections -d 'Use the relay only, never a direct path' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l disable-network-telemetry -d 'Accepted; no telemetry is ever sent' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l no-version-warning -d 'Do not warn about a server that is too old' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l no-feature-warning -d 'Do not show warnings about the server\'s licence' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l use-keyring -d 'Accepted; logins are kept in files only' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l force-tty -d 'Behave as if stdin, stdout and stderr were terminals' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l no-open -d 'Never open a browser' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -s v -l verbose -d 'Show steps with their durations; twice for debug logs' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -s q -l quiet -d 'Say nothing but warnings and errors' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l events -d 'Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)' -r -f -a "json\t'One object on a line'"
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l events-fd -d 'Inherited descriptor for that; text stays on stderr then' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -l http-timeout -d 'Time limit of each request to the server' -r
complete -c coderctl -n "__fish_coderctl_using_subcommand generate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "login" -d 'Log in to a deployment, and store the login for this client and the `coder` client'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "logout" -d 'End the stored login, here and at the deployment'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "whoami" -d 'Show who is logged in, and where'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "list" -d 'List workspaces and their states'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "show" -d 'Show a workspace: its state, its latest build, its agents'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "ssh" -d 'Open a shell in a workspace, or run a command there'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "sessions" -d 'List the sessions of a workspace that `ssh --session` comes back to'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "vscodessh" -d 'Carry SSH on stdin and stdout for an editor extension'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "port-forward" -d 'Forward ports and sockets to a workspace and back'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "cp" -d 'Copy files into a workspace, or out of it'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "config-ssh" -d 'Let OpenSSH reach all workspaces, as WORKSPACE.coderctl'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "ping" -d 'Measure round trips to a workspace, and show the way they take'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "speedtest" -d 'Measure how much the tunnel to a workspace carries'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "netcheck" -d 'Check what this network lets through to the deployment\'s relays and beyond'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "create" -d 'Create a workspace, and wait until it runs'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "start" -d 'Start a workspace, and wait until it runs'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "stop" -d 'Stop a workspace, and wait until it is stopped'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "restart" -d 'Stop a workspace, start it again, and wait until it runs'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "delete" -d 'Delete a workspace and everything in it'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "wait" -d 'Wait until a workspace is where it should be'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "logs" -d 'Show the logs of a workspace\'s build and of its agents\' scripts'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "demo" -d 'Run a command on a throw-away deployment with one workspace'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "server" -d 'Run a Coder-compatible deployment: control plane, relay, workspaces'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "agent" -d 'Run a workspace agent'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "version" -d 'Show the version'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "generate" -d 'Write completions and man pages, as they are committed to the repository'
complete -c coderctl -n "__fish_coderctl_using_subcommand help; and not __fish_seen_subcommand_from login logout whoami list show ssh sessions vscodessh port-forward cp config-ssh ping speedtest netcheck create start stop restart delete wait logs demo server agent version generate help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
