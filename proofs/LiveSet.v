(** Which cut can a worker be sure of, that began at [p] and knows nothing of the
    bytes before?

    It knows only that the last serial cut before [p] lies in [p - max, p - 1].  It
    carries all of these forward, position by position: the live set.  When one state
    is left, it is certified.

    Sound: a certified position is a cut of every chunking that began before [p].
    Complete: it is the first such position.  While two states live, two prefixes
    exist whose chunkings have no cut in common since [p], so no method at all can
    certify earlier from the bytes after [p].

    Both hold for every bounded rule.  Soundness also holds where a state's move is
    not known and all its possible moves are kept (used in Restart.v). *)

From Coq Require Import Arith Bool List Lia.
From Seams Require Import Chunking Rule.
Import ListNotations.

(** * Definitions *)

(** Every possible last cut before [p].  (Near the file's beginning, subtraction stops
    at 0: no cut is negative.  The file may as well begin at [o >= max]; see Stitch.v.) *)
Definition before (max p : nat) : list nat := seq (p - max) (p - (p - max)).

(** The state that is left, if there is but one. *)
Definition one_left (live : list nat) : option nat :=
  match live with
  | [] => None
  | b :: rest => if forallb (Nat.eqb b) rest then Some b else None
  end.

Section Sweep.
  (** [moves x b]: the states that a state [b] may be in after position [x]. *)
  Variable moves : nat -> nat -> list nat.

  Definition move_all (x : nat) (live : list nat) : list nat := flat_map (moves x) live.

  Fixpoint first_certified (live : list nat) (x k : nat) : option nat :=
    match k with
    | 0 => None
    | S j => let live' := move_all x live in
             match one_left live' with
             | Some c => Some c
             | None => first_certified live' (S x) j
             end
    end.
End Sweep.

(** The first certified cut in [p, e), if any.  [certify] is the specification that
    the sparse form of Intervals.v refines. *)
Definition certify_by (moves : nat -> nat -> list nat) (max p e : nat) : option nat :=
  first_certified moves (before max p) p (e - p).
Definition sure (f : rule) (x b : nat) : list nat := [step f x b].
Definition certify (f : rule) (max p e : nat) : option nat := certify_by (sure f) max p e.

(** Two rules that treat all positions from [p] on alike: the same bytes after [p],
    whatever came before. *)
Definition same_from (p : nat) (f g : rule) : Prop := forall b c, p <= c -> f b c = g b c.

(** * Facts about live sets *)

Lemma in_before : forall max p b, In b (before max p) <-> b < p <= b + max.
Proof. intros. unfold before. rewrite in_seq. lia. Qed.

Lemma one_left_spec : forall live c,
  one_left live = Some c <-> live <> [] /\ forall b, In b live -> b = c.
Proof.
  intros [|b rest] c; simpl; [easy|]. split.
  - destruct (forallb _ rest) eqn:A; [|easy]. intros E. injection E as <-.
    split; [easy|]. rewrite forallb_forall in A. intros d [->|I]; trivial.
    symmetry. now apply Nat.eqb_eq, A.
  - intros [_ H]. assert (b = c) as -> by (apply H; now left).
    replace (forallb (Nat.eqb c) rest) with true; trivial. symmetry.
    apply forallb_forall. intros d I. apply Nat.eqb_eq. symmetry. apply H. now right.
Qed.

(** Either one state is left or two differ. *)
Lemma one_left_none : forall live, live <> [] -> one_left live = None ->
  exists a b, In a live /\ In b live /\ a <> b.
Proof.
  intros [|b rest] Ne N; [easy|].
  destruct (Forall_Exists_dec (fun d => d = b) (fun d => Nat.eq_dec d b) rest) as [All|Some_].
  - rewrite Forall_forall in All. rewrite (proj2 (one_left_spec (b :: rest) b)) in N; [easy|].
    split; [easy|]. intros d [->|I]; auto.
  - apply Exists_exists in Some_. destruct Some_ as (d & I & D).
    exists d, b. simpl. auto.
Qed.

Lemma move_all_sure : forall f x live, move_all (sure f) x live = map (step f x) live.
Proof. intros f x. induction live as [|b live IH]; simpl; [easy|now f_equal]. Qed.

(** If a state is left alone, then every live state has gone there. *)
Lemma certified_after : forall f moves,
  (forall x b, In (step f x b) (moves x b)) ->
  forall k live x c, first_certified moves live x k = Some c ->
  exists j, 1 <= j <= k /\ forall b, In b live -> after f b x j = c.
Proof.
  intros f moves Covers. induction k as [|k IH]; intros live x c H; [easy|].
  assert (Move : forall b, In b live -> In (step f x b) (move_all moves x live))
    by (intros b I; apply in_flat_map; eauto).
  simpl in H. destruct (one_left _) eqn:A.
  - injection H as ->. apply one_left_spec in A. destruct A as [_ A].
    exists 1. split; [lia|]. intros b I. simpl. auto.
  - destruct (IH _ _ _ H) as (j & R & All). exists (S j). split; [lia|].
    intros b I. simpl. auto.
Qed.

(** What is certified in [p, e) depends on the rule's behaviour in [p, e) alone. *)
Lemma certify_local : forall f g max p e,
  (forall b c, p <= c < e -> f b c = g b c) -> certify f max p e = certify g max p e.
Proof.
  intros f g max p e Same. unfold certify, certify_by. generalize (before max p).
  assert (G : forall k live x, p <= x -> x + k <= Nat.max p e ->
            first_certified (sure f) live x k = first_certified (sure g) live x k).
  { induction k as [|k IH]; intros live x L U; simpl; trivial.
    assert (M : move_all (sure f) x live = move_all (sure g) x live).
    { rewrite !move_all_sure. apply map_ext. intros b. unfold step. rewrite Same; trivial. lia. }
    rewrite M, (IH _ (S x)) by lia. reflexivity. }
  intros live. apply G; lia.
Qed.

(** * Soundness *)

Section Sound.
  Variables min max : nat.
  Hypothesis sizes : 1 <= min <= max.
  Variable f : rule.
  Hypothesis Hf : bounded min max f.

  (** Soundness, also when moves are over-approximated: at some position [y] of the
      segment, what is certified is the last cut before [y] of every chunking that
      began before [p]. *)
  Theorem certify_by_sound : forall moves,
    (forall x b, In (step f x b) (moves x b)) ->
    forall p e c, certify_by moves max p e = Some c ->
    exists y, p <= y <= e /\ forall o, o < p -> last_cut_before min max f o y c.
  Proof.
    intros moves Covers p e c H. unfold certify_by in H.
    destruct (certified_after f moves Covers _ _ _ _ H) as (j & R & All).
    exists (p + j). split; [lia|]. intros o Lo.
    pose proof (last_cut_exists _ _ sizes _ Hf o p Lo) as A.
    rewrite <- (All (after f o (S o) (p - S o))); [now apply after_is_last_cut|].
    apply in_before. now apply (last_cut_near _ _ sizes _ Hf o).
  Qed.

  (** Soundness of the live set. *)
  Theorem certify_sound : forall p e c, certify f max p e = Some c ->
    exists y, p <= y <= e /\ forall o, o < p -> last_cut_before min max f o y c.
  Proof. apply certify_by_sound. now left. Qed.

  (** In short: a certified position is a cut of every chunking that began before. *)
  Corollary certify_sound_cut : forall p e c, certify f max p e = Some c ->
    forall o, o < p -> c < e /\ cut_of min max f o c.
  Proof.
    intros p e c H o L. destruct (certify_sound p e c H) as (y & R & All).
    destruct (All o L) as (C & Lc & _). split; [lia|assumption].
  Qed.
End Sound.

(** * Completeness *)

Section Complete.
  Variables min max : nat.
  Hypothesis sizes : 1 <= min <= max.
  Variable f : rule.
  Hypothesis Hf : bounded min max f.

  (** The rule over a prefix without hits: before [p] only forced cuts. *)
  Definition silent_before (p : nat) : rule := fun b c => if c <? p then c =? b + max else f b c.

  Lemma silent_bounded : forall p, bounded min max (silent_before p).
  Proof.
    intros p. split; intros b; unfold silent_before.
    - intros c. destruct (c <? p); [|apply (fires_late _ _ _ Hf)]. rewrite Nat.eqb_eq. lia.
    - destruct (b + max <? p); [apply Nat.eqb_refl|apply (fires_at_max _ _ _ Hf)].
  Qed.

  Lemma silent_same : forall p, same_from p f (silent_before p).
  Proof.
    intros p b c L. unfold silent_before.
    now replace (c <? p) with false by (symmetry; apply Nat.ltb_ge; lia).
  Qed.

  (** Each state of the first live set is real: some prefix ends with that last cut. *)
  Lemma before_is_real : forall p b, In b (before max p) ->
    last_cut_before min max (silent_before p) b p b.
  Proof.
    intros p b I. apply in_before in I. split; [constructor|]. split; [lia|].
    destruct (next_cut_spec _ _ sizes _ (silent_bounded p) b) as (R & T & _).
    destruct (le_lt_dec p (next_cut min max (silent_before p) b)) as [L|L]; [assumption|].
    unfold silent_before in T at 1. apply Nat.ltb_lt in L. rewrite L in T.
    apply Nat.eqb_eq in T. apply Nat.ltb_lt in L. lia.
  Qed.

  (** A prefix's chunking cuts at [y >= p] just if its state has come to [y]. *)
  Lemma prefix_cut : forall p b y, In b (before max p) -> p <= y ->
    (cut_of min max (silent_before p) b y <-> after f b p (S y - p) = y).
  Proof.
    intros p b y I L.
    rewrite (cut_of_iff_after _ _ sizes _ (silent_bounded p) b p b y); trivial.
    - now rewrite (after_agree _ f) by (intros; symmetry; apply silent_same; lia).
    - now apply before_is_real.
  Qed.

  (** The search returns before or where all states are one position. *)
  Lemma first_certified_complete : forall k live x j, j < k -> live <> [] ->
    (forall b, In b live -> b < x) ->
    (forall b, In b live -> after f b x (S j) = x + j) ->
    exists c, first_certified (sure f) live x k = Some c /\ c <= x + j.
  Proof.
    induction k as [|k IH]; intros live x j Lj Ne Below H; [lia|]. simpl.
    destruct (one_left (move_all (sure f) x live)) as [c|] eqn:A; rewrite move_all_sure in A.
    - exists c. split; [reflexivity|]. apply one_left_spec in A. destruct A as [_ A].
      destruct live as [|b live]; [easy|]. rewrite <- (A (step f x b)) by now left.
      specialize (Below b (or_introl eq_refl)). unfold step. destruct (f b x); lia.
    - destruct (one_left_none _ (fun E => Ne (map_eq_nil _ _ E)) A) as (a1 & a2 & I1 & I2 & D).
      apply in_map_iff in I1. destruct I1 as (b1 & <- & I1).
      apply in_map_iff in I2. destruct I2 as (b2 & <- & I2).
      destruct j as [|j]; [elim D; transitivity (x + 0); [|symmetry]; now apply H|].
      rewrite move_all_sure. destruct (IH (map (step f x) live) (S x) j) as (c & E & U).
      + lia.
      + now destruct live.
      + intros b I. apply in_map_iff in I. destruct I as (a & <- & Ia).
        specialize (Below _ Ia). unfold step. destruct (f a x); lia.
      + intros b I. apply in_map_iff in I. destruct I as (a & <- & Ia).
        specialize (H _ Ia). simpl in H |- *. lia.
      + exists c. split; [exact E|lia].
  Qed.

  Lemma before_not_empty : forall p, 1 <= p -> before max p <> [].
  Proof.
    intros p L E. assert (I : In (p - 1) (before max p)) by (apply in_before; lia).
    now rewrite E in I.
  Qed.

  (** Completeness, with the prefixes named: all that is asked of [y] is that it is a
      cut of the chunkings that began in [p - max, p - 1] over a silent prefix. *)
  Lemma certify_complete_silent : forall p e y, 1 <= p <= y -> y < e ->
    (forall b, In b (before max p) -> cut_of min max (silent_before p) b y) ->
    exists c, certify f max p e = Some c /\ c <= y.
  Proof.
    intros p e y R U Common.
    destruct (first_certified_complete (e - p) (before max p) p (y - p)) as (c & E & Uc);
      [lia|now apply before_not_empty|intros b I; apply in_before in I; lia| |].
    - intros b I. replace (p + (y - p)) with y by lia.
      replace (S (y - p)) with (S y - p) by lia.
      apply (prefix_cut p b y I); [lia|auto].
    - exists c. split; [exact E|lia].
  Qed.

  (** Completeness: if [y] is a cut of every chunking that began before [p], whatever
      the bytes before [p] were, then the live set certifies at [y] or earlier. *)
  Theorem certify_complete : forall p e y, 1 <= p <= y -> y < e ->
    (forall g o, bounded min max g -> same_from p f g -> o < p -> cut_of min max g o y) ->
    exists c, certify f max p e = Some c /\ c <= y.
  Proof.
    intros p e y R U Common. apply certify_complete_silent; trivial. intros b I.
    apply Common; [apply silent_bounded|apply silent_same|]. apply in_before in I. lia.
  Qed.

  (** The same in other words: no position before what [certify] returns is a common cut. *)
  Corollary certify_is_least : forall p e c, 1 <= p -> certify f max p e = Some c ->
    forall y, p <= y < c ->
    ~ (forall g o, bounded min max g -> same_from p f g -> o < p -> cut_of min max g o y).
  Proof.
    intros p e c L E y R Common.
    destruct (certify_sound_cut _ _ sizes _ Hf _ _ _ E 0 L) as [Uc _].
    destruct (certify_complete p e y) as (c' & E' & U); [lia|lia|exact Common|].
    rewrite E in E'. injection E' as <-. lia.
  Qed.

  (** Where nothing was certified, two states are left. *)
  Lemma first_certified_none : forall k live x, live <> [] -> first_certified (sure f) live x (S k) = None ->
    exists b1 b2, In b1 live /\ In b2 live /\ after f b1 x (S k) <> after f b2 x (S k).
  Proof.
    induction k as [|k IH]; intros live x Ne N; simpl in N.
    - rewrite move_all_sure in N. destruct (one_left _) eqn:A; [easy|].
      destruct (one_left_none _ (fun E => Ne (map_eq_nil _ _ E)) A) as (a1 & a2 & I1 & I2 & D).
      apply in_map_iff in I1. destruct I1 as (b1 & <- & I1).
      apply in_map_iff in I2. destruct I2 as (b2 & <- & I2). exists b1, b2. auto.
    - destruct (one_left _); [easy|]. rewrite move_all_sure in N.
      destruct (IH (map (step f x) live) (S x) (fun E => Ne (map_eq_nil _ _ E)) N) as (a1 & a2 & I1 & I2 & D).
      apply in_map_iff in I1. destruct I1 as (b1 & <- & I1).
      apply in_map_iff in I2. destruct I2 as (b2 & <- & I2). exists b1, b2. auto.
  Qed.

  (** While two states live, nobody can certify: [None] for [p, x] means that two
      prefixes exist (silent ones, with last cuts [o1] and [o2] before [p]) whose
      chunkings share no cut in [p, x]. *)
  Lemma none_means_two_states : forall p x, 1 <= p <= x -> certify f max p (S x) = None ->
    exists o1 o2, In o1 (before max p) /\ In o2 (before max p)
      /\ forall y, p <= y <= x ->
          ~ (cut_of min max (silent_before p) o1 y /\ cut_of min max (silent_before p) o2 y).
  Proof.
    intros p x R N. unfold certify, certify_by in N. replace (S x - p) with (S (x - p)) in N by lia.
    destruct (first_certified_none _ _ _ (before_not_empty p (proj1 R)) N) as (o1 & o2 & I1 & I2 & D).
    exists o1, o2. repeat split; trivial.
    (* After a common cut the two states would be the same. *)
    intros y Ry (C1 & C2). apply prefix_cut in C1; [|assumption|lia].
    apply prefix_cut in C2; [|assumption|lia]. apply D.
    replace (S (x - p)) with ((S y - p) + (x - y)) by lia.
    now rewrite !after_app, C1, C2.
  Qed.

  Theorem none_means_disagreement : forall p x, 1 <= p <= x -> certify f max p (S x) = None ->
    exists g1 g2 o1 o2,
      (bounded min max g1 /\ same_from p f g1 /\ o1 < p)
      /\ (bounded min max g2 /\ same_from p f g2 /\ o2 < p)
      /\ forall y, p <= y <= x -> ~ (cut_of min max g1 o1 y /\ cut_of min max g2 o2 y).
  Proof.
    intros p x R N. destruct (none_means_two_states p x R N) as (o1 & o2 & I1 & I2 & D).
    apply in_before in I1. apply in_before in I2.
    exists (silent_before p), (silent_before p), o1, o2.
    assert (B := silent_bounded p). assert (A := silent_same p). repeat split; trivial; lia || apply B.
  Qed.
End Complete.

(** * Completeness for the plain rule, in terms of hits *)

Section PlainComplete.
  Variables min normal max : nat.
  Hypothesis sizes : 1 <= min <= normal /\ normal <= max.
  Notation chunking h := (plain min normal max h).
  Let sizes' : 1 <= min <= max := min_max_sizes _ _ _ sizes.

  (** The hits from [p] on; none before. *)
  Definition since (p : nat) (h : hits) : hits :=
    {| strict c := (p <=? c) && strict h c; loose c := (p <=? c) && loose h c |}.

  Lemma since_nested : forall p h, nested h -> nested (since p h).
  Proof. intros p h N c. simpl. rewrite !andb_true_iff. intuition. Qed.

  Lemma since_same : forall p h, same_hits_from p h (since p h).
  Proof. intros p h c L. simpl. apply Nat.leb_le in L. now rewrite L. Qed.

  Lemma silent_since : forall h p b c,
    silent_before max (chunking h) p b c = chunking (since p h) b c.
  Proof.
    intros h p b c. unfold silent_before, plain. simpl.
    destruct (Nat.ltb_spec c p), (Nat.leb_spec p c); try lia; trivial.
    now rewrite !andb_false_r.
  Qed.

  (** If [y] is a cut of every chunking that began before [p], for every choice of the
      hits before [p], then [certify] returns [y] or an earlier cut. *)
  Theorem certify_complete_plain : forall h p e y, nested h -> 1 <= p <= y -> y < e ->
    (forall h' o, nested h' -> same_hits_from p h h' -> o < p ->
                  cut_of min max (chunking h') o y) ->
    exists c, certify (chunking h) max p e = Some c /\ c <= y.
  Proof.
    intros h p e y N R U Common.
    apply (certify_complete_silent _ _ sizes' _ (plain_bounded _ _ _ sizes h)); trivial.
    intros b I. apply in_before in I.
    apply (cut_of_agree _ _ (chunking (since p h))); [intros; symmetry; apply silent_since|].
    apply Common; [now apply since_nested|apply since_same|lia].
  Qed.

  (** While [certify] has found nothing, two inputs that differ only before [p] have
      serial chunkings without a common cut since [p]. *)
  Theorem none_means_disagreement_plain : forall h p x, nested h -> 1 <= p <= x ->
    certify (chunking h) max p (S x) = None ->
    exists h1 h2 o1 o2,
      (nested h1 /\ same_hits_from p h h1 /\ o1 < p)
      /\ (nested h2 /\ same_hits_from p h h2 /\ o2 < p)
      /\ forall y, p <= y <= x ->
          ~ (cut_of min max (chunking h1) o1 y /\ cut_of min max (chunking h2) o2 y).
  Proof.
    intros h p x Nh R N.
    destruct (none_means_two_states _ _ sizes' _ (plain_bounded _ _ _ sizes h) p x R N)
      as (o1 & o2 & I1 & I2 & D).
    apply in_before in I1. apply in_before in I2.
    pose proof (since_nested p h Nh) as Ns. pose proof (since_same p h) as Ss.
    exists (since p h), (since p h), o1, o2.
    split; [|split]; [split; [|split]; trivial; lia..|].
    intros y Ry (C1 & C2). apply (D y Ry).
    split; apply (cut_of_agree _ _ (chunking (since p h))); trivial;
      intros; symmetry; apply silent_since.
  Qed.
End PlainComplete.
