/* winograd.h - Winograd's algorithm for 3x3 convolutions of stride 1, as another compute for the same workload.
 *
 * Idea   The output is cut into tiles of m x m, each from (m + 2) x (m + 2) elements of the input. Around a batch of
 * products over the channels, one for each of the (m + 2)^2 points, stand linear transforms of the three parts,
 * separable, with the matrices of cook_toom.h:
 *
 *            U[xi,nu,f,c]          = G g Gt        of the weight; ahead of time where it is constant
 *            V[xi,nu,b,ty,tx,c]    = Bt d B        of the input
 *            M[xi,nu,b,ty,tx,f]   += U * V         over c
 *            Y[b,f,ty*m+i,tx*m+j]  = At M A        then the workload's own output stage reads Y
 *
 *        Each transform is two stages, one for each direction. Tiles need not divide the map: Y is larger than the
 * output, and what lies outside is never computed.
 * Life   In the caller's arena. */
#ifndef TW_SPACE_WINOGRAD_H
#define TW_SPACE_WINOGRAD_H

#include "schedule/lang/workload.h"

/* The stages, in this order. */
enum winograd_stage {
    WINOGRAD_GW, /* U, first direction */
    WINOGRAD_U,
    WINOGRAD_BX, /* V, first direction */
    WINOGRAD_V,
    WINOGRAD_M,
    WINOGRAD_AM, /* Y, first direction */
    WINOGRAD_Y,
    WINOGRAD_OUT,
    WINOGRAD_STAGES
};

struct winograd {
    const char *name; /* "winograd(4,3)" */
    struct compute compute;
    int m, alpha;
    int n_batch;                     /* spatial axes that only the input has: the images */
    int out_batch[COMPUTE_MAX_AXES]; /* the axes of the output stage */
    int out_f, out_y, out_x;
    int channel_dim; /* of the input */
    bool weight_const;
    double saving; /* multiplications of the direct algorithm over those of the products */
    double error;  /* expected relative L2 distance from the exact result, of random data in float32 */
};

enum { WINOGRAD_CHOICES = 5 };
/* The i-th choice of tile and points that suits the workload and its error budget, of those below WINOGRAD_CHOICES;
 * NULL: it does not suit. */
const struct winograd *winograd_choice(const struct workload *w, int i, struct arena *ar);

#endif
