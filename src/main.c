// SPDX-License-Identifier: Apache-2.0
// argv → subcommand.
#include <stdio.h>

int main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("culvert " CULVERT_VERSION);
    return 0;
}
