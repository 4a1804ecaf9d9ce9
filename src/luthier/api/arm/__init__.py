"""Azure Resource Manager: accounts, deployments and models as the control plane names them."""
