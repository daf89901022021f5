// The metrics the service stores by name: how each is titled and what it measures.

export const METRICS = {
  h_r: { title: "H(R)", note: "entropy of R, nats" },
  i_rz: { title: "I(R;Z)", note: "mutual information, nats" },
  alpha: { title: "α", note: "weight of the sample loss", range: [0, 1] },
  knn_top1: { title: "k-NN accuracy", note: "top-1, held out" },
  loss: { title: "Loss", note: "whole objective" },
  erank_r: { title: "Effective rank of R", note: "" },
  erank_z: { title: "Effective rank of Z", note: "" },
  loss_dimension: { title: "Dimension loss", note: "VICReg or Barlow Twins" },
  loss_sample: { title: "Sample loss", note: "NT-Xent" },
  loss_mi: { title: "I(R;Z) in the loss", note: "uncentred, before β" },
  uniformity: { title: "Uniformity", note: "lower is more uniform" },
  alignment: { title: "Alignment", note: "lower is closer" },
  beta: { title: "β", note: "weight of I(R;Z)" },
  lr: { title: "Learning rate", note: "" },
  images_per_s: { title: "Images per second", note: "" },
  linear_top1: { title: "Linear probe accuracy", note: "top-1, held out" },
};

/** Title and note of any metric; a name that is not known is its own title. */
export const metricInfo = (name) => METRICS[name] ?? { title: name, note: "" };
