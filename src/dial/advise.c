// SPDX-License-Identifier: Apache-2.0
#include "dial/advise.h"

void dial_advise(struct err *e, bool to_proxy)
{
    switch (e->why) {
    case WHY_REFUSED:
        err_advise(e, to_proxy ? ADVICE_PROXY_CLOSED : ADVICE_CLOSED);
        break;
    case WHY_TIMEOUT:
        err_advise(e, to_proxy ? ADVICE_PROXY_SILENT : ADVICE_SILENT);
        break;
    case WHY_UNREACHABLE:
        err_advise(e, ADVICE_NO_ROUTE);
        break;
    case WHY_POLICY:
        err_advise(e, ADVICE_PROHIBITED);
        break;
    case WHY_DNS:
        err_advise(e, ADVICE_NAME_UNKNOWN);
        break;
    case WHY_ABORTED:
        err_advise(e, ADVICE_CUT);
        break;
    default:
        break;
    }
}
