"""The canonical metric names, each with one line that says what it measures.

More may be added, none renamed: stored points and dashboards refer to them.
"""

METRICS: dict[str, str] = {
    "loss": "the whole objective",
    "loss_dimension": "the dimension-contrastive loss (VICReg or Barlow Twins)",
    "loss_sample": "the sample-contrastive loss (NT-Xent)",
    "loss_invariance": "VICReg's mean squared difference of the two views, before its weight",
    "loss_variance": "VICReg's hinge on the standard deviations, mean of the two views, before its weight",
    "loss_covariance": "VICReg's squared off-diagonal covariances, sum of the two views, before its weight",
    "loss_mi": "I(R;Z) as it enters the loss: uncentred, before beta",
    "h_r": "H(R): matrix-based Renyi entropy of centred R, in nats",
    "i_rz": "I(R;Z): matrix-based Renyi mutual information of centred R and Z at the loss's order, in nats",
    "erank_r": "effective rank of R",
    "erank_z": "effective rank of Z",
    "uniformity": "log mean Gaussian potential of pairs of Z (lower is more uniform)",
    "alignment": "mean squared distance of the two views' Z (lower is closer)",
    "alpha": "weight of the sample-contrastive loss",
    "beta": "weight of the I(R;Z) term, negative where the term is rewarded",
    "lr": "learning rate",
    "collapsed": "1 at the step where the collapse watch flagged the trial",
    "images_per_s": "training images a second, each counted once for both views",
    "knn_top1": "share of held-out images the nearest neighbours in R classify correctly",
    "linear_top1": "share of held-out images a linear probe on R classifies correctly",
}
