// SPDX-License-Identifier: Apache-2.0
// The command line: what a subcommand is and how its options are found. One table a command drives the parsing of argv,
// the keys of the INI file, the environment (CULVERT_LISTEN …) and the help. Precedence: flag, environment, file; who
// says an option in a stronger place replaces all of its values from the weaker ones. Values are text here; the typed
// readers in options.h turn them into numbers and say where a bad one was written.
#pragma once
#include "cmd/options.h"

struct command {
    const char *name;
    const char *section;   // of the INI file: "relay", "agent", or NULL: the file is not read
    const char *usage;     // what follows "culvert NAME", without options: "PAIRING | -"
    int args_min, args_max; // positional arguments; max -1: any number
    const char *summary;   // one line, for `culvert --help`
    const char *about;     // a few lines for `culvert NAME --help`
    const char *examples;  // lines, each indented by two blanks
    const struct option *const *tables; // NULL-ended; each table ends with a nameless option
    // Runs it; returns the exit status. With *e set its text is printed and its kind is the exit status.
    int (*run)(struct options *o, struct err *e);
};

// All commands, NULL-ended, in the order of the help.
extern const struct command *const commands[];
const struct command *command_find(const char *name);
// Runs the program: argv → command → exit status.
int command_main(int argc, char **argv);

extern const struct option global_options[];  // --config, --state, -v …: of every command
extern const struct option connect_options[]; // how agents reach their relays
extern const struct command command_relay, command_invite, command_grant, command_revoke, command_explain, command_join,
    command_agent, command_peer, command_conf_proxy, command_check, command_status, command_table, command_cert;

// help.c
void help_program(FILE *out);
void help_command(FILE *out, const struct command *c);
extern const char help_example[]; // a first session, line by line

// man.c: the same as man pages, culvert.1 and culvert-NAME.1
void man_program(FILE *out);
void man_command(FILE *out, const struct command *c);

// The folder of --state (made when missing, 0700): the option, CULVERT_STATE, /var/lib/culvert for root, else
// $XDG_STATE_HOME/culvert or ~/.local/state/culvert. Heap; NULL with *e set.
char *state_folder(struct options *o, struct err *e);
// Reads a secret's text: "-" from stdin, otherwise a file that only its owner may read. At most max - 1 bytes, ended
// by 0, without trailing white space. -1 with *e set.
int secret_read(const char *path, char *out, size_t max, struct err *e);
