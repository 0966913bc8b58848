# SPDX-License-Identifier: Apache-2.0
"""The surroundings of culvert for tests, the demo and the bench: culvert's own ends, real third-party programs and small
servers, each a class that finds a free port, waits until it is ready, keeps its log and ends by its pid. Standard
library only."""
