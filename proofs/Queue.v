(** How is the live set kept: what are the queue's moves, and what do they mean?

    The live set is a queue of ascending, disjoint, closed intervals.  Between hits
    nothing is done.  At a hit the queue is first settled: all intervals are turned
    forward by as many whole maxima as all of them have room for; then, while the front
    holds states that were cut by force before the hit, that part moves to the back,
    [max] further on.  Then the hit pulls: the front part that is far enough behind is
    dropped and the hit itself is appended.  Appending merges intervals that touch.

    Proved: each move leaves the queue with exactly the members that the live set of
    LiveSet.v has after it.  Intervals.v makes the sweep of it. *)

From Coq Require Import Arith Bool List Lia.
From Seams Require Import Chunking LiveSet.
Import ListNotations.

Definition intervals := list (nat * nat).

Definition member (b : nat) (live : intervals) : Prop :=
  exists i, In i live /\ fst i <= b <= snd i.

(** * The queue *)

Section Queue.
  Variable max : nat.

  (** Add states that lie at or after all others, merged with the last interval if they
      touch it. *)
  Fixpoint append (live : intervals) (a z : nat) : intervals :=
    match live with
    | [] => [(a, z)]
    | [(a', z')] => if a <=? S z' then [(a', Nat.max z' z)] else [(a', z'); (a, z)]
    | i :: rest => i :: append rest a z
    end.

  (** A long stretch without hits turns all states by the same number of forced cuts. *)
  Definition newest (live : intervals) : nat := snd (last live (0, 0)).
  Definition turn (x : nat) (live : intervals) : intervals :=
    let turned := (x - 1 - newest live) / max * max in
    map (fun i => (fst i + turned, snd i + turned)) live.

  (** The forced cuts before [x] one by one; [x] rounds are always enough. *)
  Fixpoint rotate (x : nat) (live : intervals) (fuel : nat) : intervals :=
    match fuel, live with
    | S k, (a, z) :: rest =>
        if a + max <? x then
          if z + max <? x
          then rotate x (append rest (a + max) (z + max)) k
          else rotate x (append ((x - max, z) :: rest) (a + max) (x - 1)) k
        else live
    | _, _ => live
    end.

  (** Apply the forced cuts that fall before [x]. *)
  Definition settle (x : nat) (live : intervals) : intervals := rotate x (turn x live) x.

  (** Drop the states that lie at least [reach] before the hit [c]. *)
  Fixpoint drop_reached (c reach : nat) (live : intervals) : intervals :=
    match live with
    | (a, z) :: rest =>
        if z + reach <=? c then drop_reached c reach rest
        else (Nat.max a (c + 1 - reach), z) :: rest
    | [] => []
    end.

  (** A hit at [c] pulls the states it reaches onto itself. *)
  Definition pull (c reach : nat) (live : intervals) : intervals :=
    match live with
    | (a, _) :: _ => if a + reach <=? c then append (drop_reached c reach live) c c else live
    | [] => []
    end.

  (** The certified cut, if one state is left. *)
  Definition certified (live : intervals) : option nat :=
    match live with
    | [(a, z)] => if a =? z then Some a else None
    | _ => None
    end.
End Queue.

(** * Order: what makes the ends of the queue enough *)

(** Intervals are not empty, disjoint, ascending, and begin at or after [lo]. *)
Fixpoint ascends (lo : nat) (live : intervals) : Prop :=
  match live with
  | [] => True
  | (a, z) :: rest => lo <= a <= z /\ ascends (S z) rest
  end.

Definition all_below (hi : nat) (live : intervals) : Prop := Forall (fun i => snd i < hi) live.

Lemma ascends_weaken : forall live lo lo', lo' <= lo -> ascends lo live -> ascends lo' live.
Proof. intros [|[a z] rest]; simpl; [easy|]. intuition lia. Qed.

Lemma all_below_weaken : forall live hi hi', hi <= hi' -> all_below hi live -> all_below hi' live.
Proof. intros live hi hi' L. apply Forall_impl. intros. lia. Qed.

Lemma ascends_member : forall live lo b, ascends lo live -> member b live -> lo <= b.
Proof.
  induction live as [|[a z] rest IH]; intros lo b A (i & I & R); simpl in A; [easy|].
  destruct I as [<-|I]; simpl in *; [lia|].
  assert (S z <= b) by (apply IH; [easy|exists i; auto]). lia.
Qed.

Lemma all_below_member : forall live hi b, all_below hi live -> member b live -> b < hi.
Proof.
  intros live hi b B (i & I & R). unfold all_below in B. rewrite Forall_forall in B.
  specialize (B _ I). simpl in B. lia.
Qed.

Lemma member_cons : forall b a z rest,
  member b ((a, z) :: rest) <-> a <= b <= z \/ member b rest.
Proof.
  intros. split.
  - intros (i & [<-|I] & R); [now left|right; exists i; auto].
  - intros [R|(i & I & R)]; [exists (a, z); simpl; auto|exists i; simpl; auto].
Qed.

(** Appending adds just those states, and keeps the order, when no interval begins
    after the new one. *)
Lemma append_spec : forall live lo a z,
  ascends lo live -> (forall b, member b live -> b <= a) -> lo <= a <= z ->
  ascends lo (append live a z)
  /\ (forall hi, all_below hi live -> z < hi -> all_below hi (append live a z))
  /\ forall b, member b (append live a z) <-> member b live \/ a <= b <= z.
Proof.
  induction live as [|[a' z'] rest IH]; intros lo a z A Before L.
  - simpl. split; [tauto|]. split; [intros hi _ Z; now constructor|].
    intros b. rewrite member_cons. tauto.
  - assert (La : a' <= a) by (apply Before; rewrite member_cons; simpl in A; lia).
    destruct rest as [|i rest].
    + cbn [append]. simpl in A. destruct (Nat.leb_spec a (S z')).
      * split; [simpl; lia|]. split.
        -- intros hi B Z. inversion B; subst. simpl in *. constructor; [simpl; lia|constructor].
        -- intros b. rewrite !member_cons. split.
           ++ intros [R|M]; [|auto]. destruct (le_lt_dec b z'); [left; left|right]; lia.
           ++ intros [[R|M]|R]; [left; lia|auto|left; lia].
      * split; [simpl; lia|]. split.
        -- intros hi B Z. inversion B; subst. constructor; [assumption|now constructor].
        -- intros b. rewrite !member_cons. tauto.
    + change (append ((a', z') :: i :: rest) a z) with ((a', z') :: append (i :: rest) a z).
      destruct A as (La' & A).
      assert (Lz : S z' <= a).
      { destruct i as [a2 z2]. assert (a2 <= a) by (apply Before; rewrite !member_cons; simpl in A; lia).
        simpl in A. lia. }
      destruct (IH (S z') a z A) as (A' & B' & M).
      * intros b Mb. apply Before. rewrite member_cons. auto.
      * lia.
      * split; [now split|]. split.
        -- intros hi B Z. inversion B; subst. constructor; [assumption|now apply B'].
        -- intros b. rewrite (member_cons b a' z'), M, (member_cons b a' z'). tauto.
Qed.

Lemma drop_reached_spec : forall c reach live lo, ascends lo live ->
  ascends (Nat.max lo (c + 1 - reach)) (drop_reached c reach live)
  /\ (forall hi, all_below hi live -> all_below hi (drop_reached c reach live))
  /\ forall b, member b (drop_reached c reach live) <-> member b live /\ c < b + reach.
Proof.
  induction live as [|[a z] rest IH]; intros lo A; simpl.
  - split; [trivial|split; [trivial|]]. intros b. split; [now intros (i & [] & _)|tauto].
  - simpl in A. destruct A as (La & A). destruct (Nat.leb_spec (z + reach) c) as [L|L].
    + destruct (IH (S z) A) as (A' & B' & M). split; [|split].
      * apply (ascends_weaken _ (Nat.max (S z) (c + 1 - reach))); trivial. lia.
      * intros hi B. inversion B; subst. auto.
      * intros b. rewrite M, member_cons. split; [tauto|]. intros ([R|Mb] & U); [lia|auto].
    + split; [|split].
      * simpl. split; [lia|assumption].
      * intros hi B. inversion B; subst. now constructor.
      * intros b. rewrite !member_cons. split.
        -- intros [R|Mb]; [split; [left|]; lia|]. split; [auto|].
           apply (ascends_member _ (S z)) in Mb; trivial. lia.
        -- intros ([R|Mb] & U); [left; lia|auto].
Qed.

(** One state is left in the intervals if and only if every member is that state. *)
Lemma certified_spec : forall live lo c, ascends lo live -> live <> [] ->
  (certified live = Some c <-> forall b, member b live -> b = c).
Proof.
  intros [|[a z] [|[a' z'] rest]] lo c A Ne; [easy| |]; simpl in A |- *.
  - split.
    + destruct (Nat.eqb_spec a z); [|easy]. intros E b M. injection E as <-.
      rewrite member_cons in M. destruct M as [R|(i & [] & _)]. lia.
    + intros H.
      assert (Ea : a = c) by (apply H; rewrite member_cons; lia).
      assert (Ez : z = c) by (apply H; rewrite member_cons; lia).
      subst. now rewrite Nat.eqb_refl.
  - split; [easy|]. intros H. exfalso.
    assert (a = c) by (apply H; rewrite member_cons; lia).
    assert (a' = c) by (apply H; rewrite !member_cons; lia). lia.
Qed.

Lemma newest_is_greatest : forall live lo b, ascends lo live -> member b live -> b <= newest live.
Proof.
  unfold newest. induction live as [|[a z] rest IH]; intros lo b A M; [now destruct M as (i & [] & _)|].
  destruct rest as [|[a' z'] rest].
  - rewrite member_cons in M. destruct M as [R|(i & [] & _)]. simpl. lia.
  - change (last ((a, z) :: (a', z') :: rest) (0, 0)) with (last ((a', z') :: rest) (0, 0)).
    simpl in A. destruct A as (La & A). rewrite member_cons in M. destruct M as [R|M].
    + assert (a' <= snd (last ((a', z') :: rest) (0, 0))); [|lia].
      apply (IH (S z)); [exact A|]. rewrite member_cons. lia.
    + apply (IH (S z)); [exact A|exact M].
Qed.

Lemma shift_ascends : forall t live lo, ascends lo live ->
  ascends (lo + t) (map (fun i => (fst i + t, snd i + t)) live).
Proof.
  induction live as [|[a z] rest IH]; intros lo A; simpl in *; trivial.
  split; [lia|]. apply (IH (S z)). easy.
Qed.

Lemma shift_member : forall t live c,
  member c (map (fun i => (fst i + t, snd i + t)) live) <-> exists b, member b live /\ c = b + t.
Proof.
  intros t live c. split.
  - intros (i & I & R). apply in_map_iff in I. destruct I as ([a z] & <- & I). simpl in R.
    exists (c - t). split; [exists (a, z); simpl; split; [assumption|lia]|lia].
  - intros (b & ([a z] & I & R) & ->). exists (a + t, z + t). simpl in *. split; [|lia].
    apply in_map_iff. exists (a, z). auto.
Qed.

(** * What the queue stands for *)

Section Meaning.
  Variable max : nat.
  Hypothesis positive : 1 <= max.

  (** At time [x] all live states lie in [lo, lo + max] and before [x]. *)
  Definition ordered (lo x : nat) (live : intervals) : Prop :=
    ascends lo live /\ all_below (S (lo + max)) live /\ all_below x live.

  (** ** Settling: forced cuts alone *)

  Definition forced_only : rule := fun b c => c =? b + max.

  (** The last cut before [x] of a chunk that began at [b], when there are no hits. *)
  Definition forced (x b : nat) : nat := after forced_only b (S b) (x - S b).

  Lemma forced_stays : forall x b, x <= b + max -> forced x b = b.
  Proof.
    intros x b L. unfold forced. apply quiet. intros c Hc. apply Nat.eqb_neq. lia.
  Qed.

  Lemma forced_moves : forall x b, b + max < x -> forced x b = forced x (b + max).
  Proof.
    intros x b L. unfold forced.
    replace (x - S b) with ((max - 1) + S (x - S (b + max))) by lia.
    rewrite after_app. destruct (quiet forced_only (max - 1) b (S b)) as [_ ->].
    - intros c Hc. apply Nat.eqb_neq. lia.
    - replace (S b + (max - 1)) with (b + max) by lia. cbn [after].
      assert (M : step forced_only (b + max) b = b + max)
        by (unfold step, forced_only; now rewrite Nat.eqb_refl).
      now rewrite M.
  Qed.

  (** Intervals whose states no forced cut before [x] moves any more. *)
  Lemma settled_already : forall x lo live, ordered lo x live -> x <= lo + max ->
    ordered (x - max) x live
    /\ forall c, member c live <-> exists b, member b live /\ forced x b = c.
  Proof.
    intros x lo live (A & B & C) L. split.
    - split; [|split]; trivial.
      + apply (ascends_weaken _ lo); trivial; lia.
      + apply (all_below_weaken _ x); trivial; lia.
    - assert (Stays : forall b, member b live -> forced x b = b).
      { intros b M. apply forced_stays. apply (ascends_member _ lo) in M; trivial. lia. }
      intros c. split; [intros M; exists c; auto|]. intros (b & M & <-). now rewrite Stays.
  Qed.

  (** Rotating keeps the order and moves each state where force moves it. *)
  Lemma rotate_spec : forall fuel x lo live,
    ordered lo x live -> x <= lo + fuel ->
    ordered (x - max) x (rotate max x live fuel)
    /\ forall c, member c (rotate max x live fuel) <-> exists b, member b live /\ forced x b = c.
  Proof.
    induction fuel as [|k IH]; intros x lo live O Fu.
    { apply (settled_already x lo); trivial. lia. }
    destruct live as [|[a z] rest]; [apply (settled_already x x); [|lia]; repeat split; constructor|].
    destruct O as (A & B & C). simpl in A. destruct A as (La & A).
    inversion B as [|? ? B1 B2]; inversion C as [|? ? C1 C2]; subst. simpl in B1, C1.
    cbn [rotate]. destruct (Nat.ltb_spec (a + max) x) as [Stale|Fresh].
    2:{ apply (settled_already x a); [|lia]. split; [|split].
        - simpl. split; [lia|assumption].
        - apply (all_below_weaken _ (S (lo + max))); [lia|assumption].
        - assumption. }
    assert (Rest : forall b, member b rest -> b <= a + max).
    { intros b M. pose proof (all_below_member _ _ _ B2 M). lia. }
    destruct (Nat.ltb_spec (z + max) x) as [All|Part].
    - (* the whole front interval is stale *)
      assert (Lo : exists lo', S lo <= lo' <= a + max /\ z <= lo' /\ ascends lo' rest).
      { destruct (Nat.eq_dec z (a + max)) as [->|D].
        - (* it holds [max + 1] states; then it is the only one *)
          exists (a + max). destruct rest as [|[a2 z2] rest]; [simpl; lia|].
          assert (a2 <= a + max) by (apply Rest; rewrite member_cons; simpl in A; lia).
          simpl in A. lia.
        - exists (S z). repeat split; trivial; lia. }
      destruct Lo as (lo' & L1 & L2 & A1).
      destruct (append_spec rest lo' (a + max) (z + max) A1 Rest ltac:(lia)) as (A' & B' & M').
      destruct (IH x lo' (append rest (a + max) (z + max))) as (O' & M); [|lia|].
      { split; [|split]; trivial; apply B'; trivial; try lia.
        apply (all_below_weaken _ (S (lo + max))); trivial; lia. }
      split; [exact O'|]. intros c. rewrite M. split; intros (b & Mb & E).
      + rewrite M' in Mb. destruct Mb as [Mb|R].
        * exists b. rewrite member_cons. auto.
        * exists (b - max). rewrite member_cons. split; [left; lia|].
          rewrite forced_moves by lia. now replace (b - max + max) with b by lia.
      + rewrite member_cons in Mb. destruct Mb as [R|Mb].
        * exists (b + max). rewrite M'. split; [right; lia|]. now rewrite <- forced_moves by lia.
        * exists b. rewrite M'. auto.
    - (* its first part is stale *)
      assert (Af : ascends (x - max) ((x - max, z) :: rest)) by (simpl; split; [lia|assumption]).
      assert (Before : forall b, member b ((x - max, z) :: rest) -> b <= a + max).
      { intros b Mb. rewrite member_cons in Mb. destruct Mb; [lia|auto]. }
      destruct (append_spec _ _ (a + max) (x - 1) Af Before ltac:(lia)) as (A' & B' & M').
      destruct (IH x (x - max) (append ((x - max, z) :: rest) (a + max) (x - 1))) as (O' & M); [|lia|].
      { split; [|split]; trivial; apply B'; try lia; constructor; simpl; trivial; try lia.
        apply (all_below_weaken _ (S (lo + max))); trivial; lia. }
      split; [exact O'|]. intros c. rewrite M. split; intros (b & Mb & E).
      + rewrite M', member_cons in Mb. destruct Mb as [[R|Mb]|R].
        * exists b. rewrite member_cons. split; [left; lia|assumption].
        * exists b. rewrite member_cons. auto.
        * exists (b - max). rewrite member_cons. split; [left; lia|].
          rewrite forced_moves by lia. now replace (b - max + max) with b by lia.
      + rewrite member_cons in Mb. destruct Mb as [R|Mb].
        * destruct (le_lt_dec (x - max) b) as [L|L].
          -- exists b. rewrite M', member_cons. split; [left; left; lia|assumption].
          -- exists (b + max). rewrite M'. split; [right; lia|]. now rewrite <- forced_moves by lia.
        * exists b. rewrite M', member_cons. auto.
  Qed.

  (** Turning moves states by forced cuts only. *)
  Lemma forced_turns : forall t x b, b + t * max < x -> forced x b = forced x (b + t * max).
  Proof.
    induction t as [|t IH]; intros x b L; simpl in *; [now rewrite Nat.add_0_r|].
    rewrite forced_moves by lia. rewrite IH by lia. f_equal. lia.
  Qed.

  Lemma turn_spec : forall x lo live, ordered lo x live ->
    (exists lo', lo <= lo' /\ ordered lo' x (turn max x live))
    /\ forall c, (exists b, member b (turn max x live) /\ forced x b = c)
                <-> exists b, member b live /\ forced x b = c.
  Proof.
    intros x lo live (A & B & C). unfold turn.
    set (t := (x - 1 - newest live) / max).
    assert (T : t * max <= x - 1 - newest live).
    { pose proof (Nat.mul_div_le (x - 1 - newest live) max ltac:(lia)). unfold t. lia. }
    assert (Room : forall b, member b live -> b + t * max < x).
    { intros b M. pose proof (newest_is_greatest _ _ _ A M). pose proof (all_below_member _ _ _ C M). lia. }
    split.
    - exists (lo + t * max). split; [lia|]. split; [now apply shift_ascends|].
      assert (Ends : forall i, In i live -> member (snd i) live).
      { clear - A. revert lo A. induction live as [|[a z] rest IH]; intros lo A i I; [easy|].
        simpl in A. destruct I as [<-|I]; rewrite member_cons; simpl; [lia|]. right.
        now apply (IH (S z)). }
      unfold all_below in *. rewrite !Forall_map, !Forall_forall in *.
      split; intros [a z] I; simpl; [specialize (B _ I); simpl in B; lia|].
      specialize (Room _ (Ends _ I)). exact Room.
    - intros c. split.
      + intros (b' & M & E). apply shift_member in M. destruct M as (b & M & ->).
        exists b. rewrite (forced_turns t) by auto. auto.
      + intros (b & M & E). exists (b + t * max). rewrite <- forced_turns by auto.
        split; [|assumption]. apply shift_member. eauto.
  Qed.

  (** Settling refines: the intervals of an earlier time, brought to time [x]. *)
  Theorem settle_refines : forall x lo live, ordered lo x live ->
    ordered (x - max) x (settle max x live)
    /\ forall c, member c (settle max x live) <-> exists b, member b live /\ forced x b = c.
  Proof.
    intros x lo live O. destruct (turn_spec x lo live O) as ((lo' & L & O') & T).
    destruct (rotate_spec x x lo' _ O' ltac:(lia)) as (O2 & M). split; [exact O2|].
    intros c. unfold settle. now rewrite M, T.
  Qed.

  (** ** Pulling: one hit *)

  (** Pulling refines the step of the live set at a hit. *)
  Theorem pull_refines : forall c reach live, 1 <= reach <= max ->
    ordered (c - max) c live ->
    ordered (S c - max) (S c) (pull c reach live)
    /\ forall d, member d (pull c reach live) <->
         exists b, member b live /\ d = (if b + reach <=? c then c else b).
  Proof.
    intros c reach live Ge (A & B & C).
    assert (C' : all_below (S c) live) by (apply (all_below_weaken _ c); trivial; lia).
    assert (B' : all_below (S (S c - max + max)) live) by (apply (all_below_weaken _ c); trivial; lia).
    destruct live as [|[a z] rest].
    { split; [repeat split; trivial|]. intros d. split; [now intros (i & [] & _)|now intros (b & (i & [] & _) & _)]. }
    unfold pull. destruct (Nat.leb_spec (a + reach) c) as [L|L].
    - destruct (drop_reached_spec c reach _ _ A) as (A' & D & M).
      destruct (append_spec (drop_reached c reach ((a, z) :: rest)) (S c - max) c c) as (A2 & D2 & M2).
      { apply (ascends_weaken _ (Nat.max (c - max) (c + 1 - reach))); trivial. lia. }
      { intros b Mb. apply M in Mb. pose proof (all_below_member _ _ _ C (proj1 Mb)). lia. }
      { lia. }
      split.
      + split; [|split]; trivial; apply D2; auto; lia.
      + intros d. rewrite M2, M. split.
        * intros [(Md & U)|R].
          -- exists d. split; trivial. now destruct (Nat.leb_spec (d + reach) c); [lia|].
          -- exists a. split; [rewrite member_cons; simpl in A; left; lia|].
             destruct (Nat.leb_spec (a + reach) c); lia.
        * intros (b & Mb & ->). destruct (Nat.leb_spec (b + reach) c); [right; lia|auto].
    - simpl in A. destruct A as (La & A).
      assert (A' : ascends a ((a, z) :: rest)) by (simpl; split; [lia|assumption]).
      assert (U : forall b, member b ((a, z) :: rest) -> c < b + reach).
      { intros b M. apply (ascends_member _ a) in M; trivial. lia. }
      split.
      + split; [|split]; trivial. apply (ascends_weaken _ a); trivial. lia.
      + intros d. split.
        * intros M. exists d. split; trivial. specialize (U _ M).
          now destruct (Nat.leb_spec (d + reach) c); [lia|].
        * intros (b & M & ->). specialize (U _ M). now destruct (Nat.leb_spec (b + reach) c); [lia|].
  Qed.

  (** ** The queue at some earlier time, and the live set at time [x] *)

  (** The intervals, once settled to [x], have the members of the live set at [x]. *)
  Definition refines (x : nat) (live : intervals) (states : list nat) : Prop :=
    (exists lo, ordered lo x live)
    /\ forall c, In c states <-> exists b, member b live /\ forced x b = c.

  Lemma refines_settled : forall x live states, refines x live states ->
    ordered (x - max) x (settle max x live)
    /\ forall c, In c states <-> member c (settle max x live).
  Proof.
    intros x live states ((lo & O) & M). destruct (settle_refines x lo live O) as (O' & T).
    split; trivial. intros c. now rewrite M, T.
  Qed.

  (** The program's question is the model's. *)
  Lemma same_question : forall live states lo, ascends lo live -> states <> [] ->
    (forall c, In c states <-> member c live) -> certified live = one_left states.
  Proof.
    intros live states lo A Ne M.
    assert (Nl : live <> []).
    { intros ->. destruct states as [|b states]; [easy|].
      destruct (proj1 (M b) (or_introl eq_refl)) as (i & [] & _). }
    assert (E : forall c, certified live = Some c <-> one_left states = Some c).
    { intros c. rewrite (certified_spec _ _ _ A Nl), one_left_spec.
      split; [intros H; split; [assumption|]|intros [_ H]]; intros b I; apply H; now apply M. }
    destruct (one_left states) as [c|]; [now apply E|].
    destruct (certified live) as [c|]; [symmetry; now apply E|reflexivity].
  Qed.

  Lemma settled_question : forall x live states, refines x live states -> states <> [] ->
    certified (settle max x live) = one_left states.
  Proof.
    intros x live states R Ne. destruct (refines_settled _ _ _ R) as ((A & _) & M).
    now apply (same_question _ _ _ A).
  Qed.

  Lemma state_range : forall x live states, refines x live states ->
    forall a, In a states -> a < x <= a + max.
  Proof.
    intros x live states R a I. destruct (refines_settled _ _ _ R) as ((A & _ & C) & M).
    apply M in I. pose proof (ascends_member _ _ _ A I). pose proof (all_below_member _ _ _ C I). lia.
  Qed.

  (** Between hits nothing is done. *)
  Lemma refines_forced : forall g x live states, refines x live states ->
    (forall a, In a states -> step g x a = step forced_only x a) ->
    refines (S x) live (map (step g x) states).
  Proof.
    intros g x live states ((lo & A & B & C) & M) Step. split.
    - exists lo. split; [|split]; trivial. apply (all_below_weaken _ x); trivial; lia.
    - assert (Move : forall b, member b live -> step g x (forced x b) = forced (S x) b).
      { intros b Mb. pose proof (all_below_member _ _ _ C Mb).
        rewrite Step by (apply M; eauto). unfold forced.
        replace (S x - S b) with (S (x - S b)) by lia.
        rewrite after_last. now replace (S b + (x - S b)) with x by lia. }
      intros c. rewrite in_map_iff. split.
      + intros (a & <- & I). apply M in I. destruct I as (b & Mb & <-). exists b.
        split; [assumption|symmetry; auto].
      + intros (b & Mb & <-). exists (forced x b). split; [auto|]. apply M. eauto.
  Qed.

  Lemma refines_before : forall p, 1 <= p -> refines p [(p - max, p - 1)] (before max p).
  Proof.
    intros p L. split.
    - exists (p - max). split; [simpl; lia|]. split; (constructor; [simpl; lia|constructor]).
    - intros c. rewrite in_before. split.
      + intros R. exists c. rewrite member_cons. split; [left; lia|]. apply forced_stays. lia.
      + intros (b & M & <-). rewrite member_cons in M. destruct M as [R|(i & [] & _)].
        rewrite forced_stays; lia.
  Qed.
End Meaning.
